"""Typed calls to the engine at one mount that an application makes: tokens, signatures, health."""

from collections.abc import Mapping, Sequence
from typing import Any

from skyflowctl.engine.names import NAME_RULE, is_name
from skyflowctl.vault.errors import BadRoleNameError, NotAnEngineError, SilentlyIgnoredError
from skyflowctl.vault.responses import Creds, EngineHealth, SignedDataTokens
from skyflowctl.vault.transport import Reply, Request, Transport, WrapInfo


class ConsumerApi:
    """One mount, as an application uses it. Every method raises a ``VaultError``.

    Args:
        transport: to the server, or to a single node.
        path: of the mount, without a trailing slash (``skyflow/order``).
    """

    def __init__(self, transport: Transport, path: str) -> None:
        self._transport = transport
        self._path = path

    def creds(self, role: str, ctx: str | Mapping[str, Any] | None = None) -> Creds:
        """Read a token: a string ctx as a query parameter, an object ctx as a JSON body."""
        reply = self._creds(role, ctx, None)
        if "access_token" not in (reply.data or {}):
            raise NotAnEngineError.at(self._path)
        return Creds.parse(reply.data or {}, reply.request_id)

    def wrapped_creds(
        self, role: str, ctx: str | Mapping[str, Any] | None, wrap_ttl: str
    ) -> WrapInfo:
        """Mint a token that the server keeps behind a single-use wrapping token."""
        wrapped = self._creds(role, ctx, wrap_ttl).wrap_info
        if wrapped is None:
            raise SilentlyIgnoredError(
                "the server did not wrap the answer",
                why="a proxy dropped the X-Vault-Wrap-TTL header",
                fix="name the server's own address",
                path=f"{self._path}/creds/{role}",
            )
        return wrapped

    def _creds(self, role: str, ctx: str | Mapping[str, Any] | None, wrap_ttl: str | None) -> Reply:
        self._check_name(role)
        where = f"{self._path}/creds/{role}"
        if ctx is None or isinstance(ctx, str):
            params = None if ctx is None else {"ctx": ctx}
            return self._transport.send(Request("GET", where, params=params, wrap_ttl=wrap_ttl))
        asked = Request("POST", where, body={"ctx": ctx}, idempotent=True, wrap_ttl=wrap_ttl)
        return self._transport.send(asked)

    def sign(
        self,
        role: str,
        data_tokens: Sequence[str],
        *,
        ctx: str | Mapping[str, Any] | None = None,
        ttl: int | None = None,
    ) -> SignedDataTokens:
        """Have data tokens signed, in their order; ``ttl`` is seconds, None the engine's default.

        Nothing is written: any node answers, and the request may be repeated.
        """
        self._check_name(role)
        given = {"data_tokens": list(data_tokens), "ctx": ctx, "ttl": ttl}
        body = {name: value for name, value in given.items() if value is not None}
        where = f"{self._path}/sign/{role}"
        data = self._transport.send(Request("POST", where, body=body, idempotent=True)).data or {}
        if "signed_data_tokens" not in data:
            raise NotAnEngineError.at(self._path)
        return SignedDataTokens.parse(data)

    def health(self, *, refresh: bool = False) -> EngineHealth:
        """Return the engine's health from the node that answers."""
        params = {"refresh": "true"} if refresh else None
        reply = self._transport.send(Request("GET", f"{self._path}/health", params=params))
        return EngineHealth.parse(reply.data or {})

    def _check_name(self, name: str) -> None:
        """Refuse a name with a slash or dots, which would change the path of a request.

        Raises:
            BadRoleNameError: the name is not valid.
        """
        if not is_name(name):
            raise BadRoleNameError(
                f"{ascii(name)[:80]} is not a valid role name",
                why=NAME_RULE,
                fix=f"'skyflowctl role list {self._path}' lists the roles of this mount",
            )
