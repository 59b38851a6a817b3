"""Reads a token through the server, as applications do."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from skyflowctl.engine.ctx import Ctx, InvalidCtxError, check_ctx
from skyflowctl.errors import UsageError
from skyflowctl.operations.mounts import naming_cut_off, not_found_is_usage_error
from skyflowctl.operations.roles import no_such_role
from skyflowctl.vault.errors import BadRequestError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.responses import Creds
from skyflowctl.vault.transport import WrapInfo


def read_creds(gateway: Gateway, path: str, role: str, ctx: Ctx | None) -> Creds:
    """Return a fresh token of a role; one request.

    Raises:
        UsageError: nothing is mounted there, or the engine refuses the role or the ctx.
        InvalidInputError: the mount has no credential.
        UnhealthyError: the token service refused, or did not answer.
    """
    with (
        not_found_is_usage_error(path),
        naming_cut_off(gateway, path),
        _naming_arguments(gateway, path, role),
    ):
        return gateway.engine(path).creds(role, ctx)


def read_wrapped_creds(
    gateway: Gateway, path: str, role: str, ctx: Ctx | None, wrap_ttl: str
) -> WrapInfo:
    """Let the server mint a token and wrap it; the wrapping token opens it once.

    Raises:
        UsageError: nothing is mounted there, or the engine refuses the role or the ctx.
    """
    with (
        not_found_is_usage_error(path),
        naming_cut_off(gateway, path),
        _naming_arguments(gateway, path, role),
    ):
        return gateway.engine(path).wrapped_creds(role, ctx, wrap_ttl)


@contextmanager
def _naming_arguments(gateway: Gateway, path: str, role: str) -> Iterator[None]:
    """Turn the engine's refusal of a role or ctx in the block into a usage error, exit 64.

    The valid values are read only then; a login that may not read them gets a shorter message.
    """
    try:
        yield
    except BadRequestError as error:
        if error.says("unknown role"):
            raise no_such_role(gateway, path, role) from error
        reason = next((text for text in error.messages if text.startswith("ctx: ")), None)
        if reason is not None:
            asked = _asked_ctx(gateway, path, role)
            raise bad_ctx(reason.removeprefix("ctx: "), asked) from error
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
