"""Reads a token through the server, or has data tokens signed there, as applications do."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from skyflowctl.engine.ctx import Ctx, InvalidCtxError, check_ctx
from skyflowctl.errors import UsageError
from skyflowctl.operations.mounts import naming_cut_off, not_found_is_usage_error
from skyflowctl.operations.roles import no_such_role
from skyflowctl.vault.errors import BadRequestError, NotFoundError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.responses import Creds, SignedDataTokens
from skyflowctl.vault.transport import WrapInfo

TOKEN_VARIABLE, EXPIRY_VARIABLE = "SKYFLOW_BEARER_TOKEN", "SKYFLOW_BEARER_EXPIRES_AT"
"""The environment variables that hand a token to a program."""

# The argument for a field of sign/<role> that the engine refuses, and what to do about it.
_SIGN_FIXES = {
    "ttl": ("--ttl", "leave out --ttl, or give a shorter time"),
    "data_tokens": (
        "the data tokens",
        "give 1 to 64 data tokens as Skyflow returned them; 'xargs -n 64' splits more",
    ),
}


def read_creds(gateway: Gateway, path: str, role: str, ctx: Ctx | None) -> Creds:
    """Return a fresh token of a role; one request.

    Raises:
        UsageError: nothing is mounted there, or the engine refuses the role or the ctx.
        InvalidInputError: the mount has no credential.
        UnhealthyError: the token service refused, or did not answer.
    """
    with _naming_arguments(gateway, path, role):
        return gateway.engine(path).creds(role, ctx)


def read_wrapped_creds(
    gateway: Gateway, path: str, role: str, ctx: Ctx | None, wrap_ttl: str
) -> WrapInfo:
    """Let the server mint a token and wrap it; the wrapping token opens it once.

    Raises:
        UsageError: nothing is mounted there, or the engine refuses the role or the ctx.
    """
    with _naming_arguments(gateway, path, role):
        return gateway.engine(path).wrapped_creds(role, ctx, wrap_ttl)


def token_environment(access_token: str, expires_at: str) -> dict[str, str]:
    """Return the environment variables with a token and its expiry."""
    return {TOKEN_VARIABLE: access_token, EXPIRY_VARIABLE: expires_at}


def sign_data_tokens(
    gateway: Gateway,
    path: str,
    role: str,
    data_tokens: Sequence[str],
    *,
    ctx: Ctx | None = None,
    ttl: int | None = None,
) -> SignedDataTokens:
    """Have data tokens signed with a mount's key, all of them or none; one request.

    Args:
        gateway: to the server.
        path: the mount's.
        role: its ctx rule and its longest ttl hold.
        data_tokens: 1 to 64; the answer keeps their order.
        ctx: goes into the signed data tokens.
        ttl: seconds; None: the engine's default.

    Raises:
        UsageError: nothing is mounted there, its engine cannot sign, or it refuses an argument.
        InvalidInputError: the mount has no credential.
    """
    with _naming_arguments(gateway, path, role):
        try:
            return gateway.engine(path).sign(role, data_tokens, ctx=ctx, ttl=ttl)
        except NotFoundError as error:
            if error.says("unsupported path"):
                raise _cannot_sign(path) from error
            raise


def _cannot_sign(path: str) -> UsageError:
    return UsageError(
        f"the engine at {path} cannot sign data tokens",
        why="its release has no path sign/",
        fix=f"'skyflowctl status {path}' shows its version; a newer release of the engine signs",
        code="cannot-sign",
    )


@contextmanager
def _naming_arguments(gateway: Gateway, path: str, role: str) -> Iterator[None]:
    """Turn a wrong mount, role or other argument in the block into a usage error, exit 64.

    The valid values are read only then; a login that may not read them gets a shorter message.
    """
    try:
        with not_found_is_usage_error(path), naming_cut_off(gateway, path):
            yield
    except BadRequestError as error:
        if error.says("unknown role"):
            raise no_such_role(gateway, path, role) from error
        for field, _, reason in (text.partition(": ") for text in error.messages):
            if field == "ctx":
                raise bad_ctx(reason, _asked_ctx(gateway, path, role)) from error
            if field in _SIGN_FIXES:
                named, fix = _SIGN_FIXES[field]
                raise UsageError(f"{named} cannot be used", why=reason, fix=fix) from error
        raise


def _asked_ctx(gateway: Gateway, path: str, role: str) -> str:
    """Return the ctx pattern of a role, which is not secret; empty: unknown."""
    try:
        found = gateway.engine(path).role(role)
    except VaultError:
        return ""
    return found.ctx_pattern if found else ""


def parse_ctx(text: str | None) -> Ctx | None:
    """Return the ctx of an argument: a text, or an object if it begins with ``{``.

    Raises:
        UsageError: it begins with ``{`` and is no JSON object, or breaks the rules of ctx. The
            message quotes nothing of it.
    """
    if text is None:
        return None
    value: str | Mapping[str, Any] = _json_object(text) if text.startswith("{") else text
    try:
        return check_ctx(value)
    except InvalidCtxError as error:
        raise bad_ctx(error.reason) from None


def _json_object(text: str) -> Mapping[str, Any]:
    try:
        parsed: Mapping[str, Any] = json.loads(text)
    except ValueError:
        raise bad_ctx("it begins with { but is not a JSON object") from None
    return parsed


def bad_ctx(reason: str, asked: str = "") -> UsageError:
    """Return the error for a ctx that breaks the general rules or the role's rule.

    Args:
        reason: the broken rule, without any part of the ctx.
        asked: the role's pattern, if known.
    """
    fix = 'give text such as order:ORD-42, or a flat JSON object such as \'{"purpose":"x"}\''
    if asked:
        fix = f"give --ctx with a text of this form; the role asks for {asked}"
    return UsageError(
        "the ctx cannot be used",
        why=reason,
        fix=fix,
        code="bad-ctx",
    )
