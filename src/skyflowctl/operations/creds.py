"""A token through the server: the way that applications take, too."""

import json
from collections.abc import Mapping
from typing import Any

from skyflowctl.engine.ctx import Ctx, InvalidCtx, check_ctx
from skyflowctl.errors import InvalidInput
from skyflowctl.operations.mounts import naming_mount
from skyflowctl.vault.answers import Creds
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import WrapInfo


def read_creds(gateway: Gateway, path: str, role: str, ctx: Ctx | None) -> Creds:
    """Return a fresh token of a role; one request.

    Raises:
        UsageError: nothing is mounted there.
        InvalidInput: the engine refuses the role or the ctx.
        Unhealthy: the token service refused, or did not answer.
    """
    with naming_mount(path):
        return gateway.creds(path, role, ctx)


def read_wrapped_creds(
    gateway: Gateway, path: str, role: str, ctx: Ctx | None, wrap_ttl: str
) -> WrapInfo:
    """Have a token minted and kept by the server; the answer opens it once.

    Raises:
        UsageError: nothing is mounted there.
    """
    with naming_mount(path):
        return gateway.wrapped_creds(path, role, ctx, wrap_ttl)


def parse_ctx(text: str | None) -> Ctx | None:
    """Return the ctx that an argument means: text, or an object when it begins with ``{``.

    Raises:
        InvalidInput: it begins with ``{`` and is no JSON object, or breaks the rules of
            ctx. The message repeats nothing of it.
    """
    if text is None:
        return None
    value: str | Mapping[str, Any] = _json_object(text) if text.startswith("{") else text
    try:
        return check_ctx(value)
    except InvalidCtx as error:
        raise _bad_ctx(error.reason) from None


def _json_object(text: str) -> Mapping[str, Any]:
    try:
        parsed: Mapping[str, Any] = json.loads(text)
    except ValueError:
        raise _bad_ctx("it begins with { and is no JSON object") from None
    return parsed


def _bad_ctx(reason: str) -> InvalidInput:
    return InvalidInput(
        "the ctx cannot be used",
        why=reason,
        fix='give text such as order:ORD-42, or a flat JSON object such as \'{"purpose":"x"}\'',
        code="bad-ctx",
    )
