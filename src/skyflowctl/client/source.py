"""Tokens and secrets for an application, read through the server and kept until they end."""

import base64
import json
import os
import random
import weakref
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from .cache import Fetch, Held, RefreshingCache
from .connections import ServerRequest
from .errors import ClientSettingsError, RequestRefusedError
from .logins import AgentLogin, ServerLogin, environment_login
from .server import UNIX, ServerEndpoint, environment_value, resolve_endpoint
from .session import ClientLimits, ServerSession
from .values import BearerToken, MaskedText, Moment, SecretFields, SignedToken, SystemTime

TokenCtx = str | Mapping[str, str | int | float | bool]
_REFRESH_LEFT = 1200.0
"""A token is renewed when it has this left: an outage of a quarter of an hour is not noticed."""
_MOST_DATA_TOKENS = 64


class _Wanted(NamedTuple):
    """What a caller asked for: its key in the cache, and what reads it."""

    key: Hashable
    fetch: Fetch


class SourceCore:
    """What the source for threads and its async twin have in common.

    Args:
        login: how to log in; None: with the environment's token, which goes only to the
            environment's address.
        server: where the server is; None: what BAO_ADDR or VAULT_ADDR say.
        application: what this program calls itself, for the server's audit log.
        limits: times and sizes.

    Raises:
        ClientSettingsError: no server or login is named, or a file cannot be used.
    """

    def __init__(
        self,
        login: ServerLogin | None = None,
        *,
        server: ServerEndpoint | str | None = None,
        application: str = "",
        limits: ClientLimits | None = None,
        clock: SystemTime | None = None,
    ) -> None:
        self._limits = limits or ClientLimits()
        self._clock = clock or SystemTime()
        endpoint = resolve_endpoint(server, os.environ)
        if not application.isprintable() or not application.isascii():
            raise ClientSettingsError("the application's name has characters that no header has")
        self._parts = (endpoint, login or _own_login(server, endpoint), application)
        self._session = self._new_session()
        # A read may wait for the login of another thread, so two deadlines.
        self._cache = RefreshingCache(self._limits.entries, 2 * self._limits.deadline, self._clock)
        _SOURCES.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._parts[0].address})"

    def _new_session(self) -> ServerSession:
        endpoint, login, application = self._parts
        return ServerSession(endpoint, login, self._limits, application, self._clock)

    def _close(self) -> None:
        self._cache.close()
        self._session.close()

    def restart(self) -> None:
        """Let go of what belongs to the parent, in the child of a fork."""
        self._session.close()
        self._session = self._new_session()
        self._cache.forget_threads()

    def _token(self, mount: str, role: str, ctx: TokenCtx | None) -> _Wanted:
        path = f"{_clean(mount)}/creds/{_clean(role)}"
        if ctx is None or isinstance(ctx, str):
            given = {} if ctx is None else {"ctx": MaskedText(ctx)}
            request = ServerRequest("GET", path, params=given)
            key = "" if ctx is None else f"={ctx}"
        else:
            request = ServerRequest("POST", path, body={"ctx": MaskedObject(ctx)})
            key = _canonical(ctx)
        return _Wanted((path, MaskedText(key)), lambda: self._read_token(request))

    def _read_token(self, request: ServerRequest) -> Held:
        asked = Moment(self._clock)
        data = self._session.call(request)
        token_text = data.get("access_token")
        if not isinstance(token_text, str) or not token_text:
            raise RequestRefusedError(f"{request.path}: the answer has no token", 200)
        ttl = _seconds(data, self._clock)
        token = BearerToken(data, ttl, asked)
        # The spread keeps processes that started together from asking together.
        early = 1.0 + random.uniform(0.0, 0.1)  # noqa: S311 - a spread, no secret
        refresh = ttl - min(_REFRESH_LEFT, ttl * 2 / 3) * early
        return Held(token, asked, refresh, ttl - self._limits.min_left, ttl)

    def _secrets(self, path: str, mount: str | None) -> _Wanted:
        whole = _clean(path)
        engine = _clean(mount) if mount else whole.partition("/")[0]
        name = whole.removeprefix(f"{engine}/")
        if name == whole or not name:
            raise ClientSettingsError("a secret's path is MOUNT/NAME, such as secret/backend")
        request = ServerRequest("GET", f"{engine}/data/{name}")
        return _Wanted((request.path, None), lambda: self._read_secret(request))

    def _read_secret(self, request: ServerRequest) -> Held:
        asked = Moment(self._clock)
        data = self._session.call(request)
        fields, metadata = data.get("data"), data.get("metadata")
        if not isinstance(fields, dict) or not isinstance(metadata, dict):
            raise RequestRefusedError(f"{request.path}: it is deleted, or no KV v2 secret", 200)
        version = metadata.get("version", 0)
        if not isinstance(version, int):
            raise RequestRefusedError(f"{request.path}: the answer's version is no number", 200)
        value = SecretFields(fields, version)
        fresh = self._limits.secrets_fresh
        return Held(value, asked, fresh * 0.6, fresh, fresh + self._limits.secrets_stale)

    def _signed(
        self, where: tuple[str, str], tokens: Sequence[str], ctx: TokenCtx | None, ttl: int | None
    ) -> list[SignedToken]:
        if isinstance(tokens, str):
            raise ClientSettingsError("data tokens are a list of texts, not one text")
        path = f"{_clean(where[0])}/sign/{_clean(where[1])}"
        body: dict[str, Any] = {} if ttl is None else {"ttl": ttl}
        if ctx is not None:
            body["ctx"] = MaskedText(ctx) if isinstance(ctx, str) else MaskedObject(ctx)
        signed: list[SignedToken] = []
        for first in range(0, len(tokens), _MOST_DATA_TOKENS):
            part = [MaskedText(one) for one in tokens[first : first + _MOST_DATA_TOKENS]]
            request = ServerRequest("POST", path, body={**body, "data_tokens": part})
            signed += _signed_tokens(path, self._session.call(request))
        if len(signed) != len(tokens):
            raise RequestRefusedError(f"{path}: the answer does not have every data token", 200)
        return signed


class TokenSource(SourceCore):
    """Hands out Skyflow tokens, signed data tokens and KV secrets. Safe for threads; one for a
    process is enough.

    See :class:`SourceCore` for the arguments.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop tokens and secrets, and close the connections."""
        self._close()

    def token(self, mount: str, role: str, ctx: TokenCtx | None = None) -> BearerToken:
        """Return a token of a role that is valid for at least ``limits.min_left``.

        It has less only if the server did not answer since, or hands out shorter ones.

        Args:
            mount: the path of the mount, such as ``skyflow/order``.
            role: the role.
            ctx: the context to bind into it, by the role's rule.

        Raises:
            TokenSourceError: there is no token that is still valid, and none can be read.
        """
        token: BearerToken = self._cache.get(*self._token(mount, role, ctx))
        return token

    def secrets(self, path: str, *, mount: str | None = None) -> SecretFields:
        """Return the fields of a KV v2 secret, at most ``limits.secrets_fresh`` old.

        They are older, by at most ``limits.secrets_stale``, only while the server does not answer.

        Args:
            path: mount and name, such as ``secret/backend``.
            mount: the mount, if its path has a slash; else the first part of ``path``.

        Raises:
            TokenSourceError: it cannot be read.
        """
        fields: SecretFields = self._cache.get(*self._secrets(path, mount))
        return fields

    def sign(
        self,
        mount: str,
        role: str,
        data_tokens: Sequence[str],
        ctx: TokenCtx | None = None,
        *,
        ttl: int | None = None,
    ) -> list[SignedToken]:
        """Return signed data tokens, in order. They are not kept: they live for seconds.

        Args:
            mount: the path of the mount.
            role: the role; it permits signing.
            data_tokens: what to sign; more than 64 are sent in several requests.
            ctx: the context to bind, by the role's rule.
            ttl: seconds; None: the engine's default, 60.

        Raises:
            TokenSourceError: not all are signed.
        """
        return self._signed((mount, role), data_tokens, ctx, ttl)


_SOURCES: "weakref.WeakSet[SourceCore]" = weakref.WeakSet()


def _restart_after_fork() -> None:
    for source in list(_SOURCES):
        source.restart()


os.register_at_fork(after_in_child=_restart_after_fork)


class MaskedObject(dict[str, Any]):
    """An object ctx that prints as a mask."""

    def __repr__(self) -> str:
        return "***"


def _canonical(ctx: Mapping[str, Any]) -> str:
    """Return the text of an object ctx; equal ones have the same text.

    Raises:
        ClientSettingsError: it cannot be sent.
    """
    try:
        return json.dumps(MaskedObject(ctx), sort_keys=True)
    except (TypeError, ValueError):
        pass
    raise ClientSettingsError("a ctx is a text, or an object of texts, numbers and booleans")


def _own_login(server: object, endpoint: ServerEndpoint) -> ServerLogin:
    """Return the login of a source that was given none."""
    if server is None:
        agent = bool(environment_value(os.environ, "AGENT_ADDR"))
        found = environment_login(os.environ, agent=agent or _is_unix(endpoint))
    else:
        found = AgentLogin() if _is_unix(endpoint) else None
    if found is None:
        raise ClientSettingsError(
            "no login is named: give one, such as AppRole(...), or set BAO_ADDR and BAO_TOKEN"
        )
    return found


def _is_unix(endpoint: ServerEndpoint) -> bool:
    return endpoint.address.startswith(f"{UNIX}:")


def _clean(path: str) -> str:
    """Return a path without outer slashes.

    Raises:
        ClientSettingsError: it is empty, or would lead elsewhere.
    """
    clean = path.strip("/")
    parts = clean.split("/")
    if not clean.isprintable() or any(part in {"", ".", ".."} for part in parts):
        raise ClientSettingsError("a path is empty, or has an empty part, a dot or invalid text")
    return clean


def _signed_tokens(path: str, data: Mapping[str, Any]) -> list[SignedToken]:
    """Return what was signed.

    Raises:
        RequestRefusedError: the answer is malformed.
    """
    answered = data.get("signed_data_tokens")
    signed: list[SignedToken] = []
    for one in answered if isinstance(answered, list) else [None]:
        texts = one if isinstance(one, dict) else {}
        plain, sealed = texts.get("data_token"), texts.get("signed_data_token")
        if not (isinstance(plain, str) and isinstance(sealed, str) and plain and sealed):
            raise RequestRefusedError(f"{path}: the answer has no signed data tokens", 200)
        signed.append(SignedToken(plain, sealed))
    return signed


def _seconds(data: Mapping[str, Any], clock: SystemTime) -> float:
    """Return how long a token lives: what the engine says, else what is left to its own ``exp``;
    0, so that it is not kept, if neither says."""
    ttl = data.get("ttl")
    if isinstance(ttl, int | float) and not isinstance(ttl, bool):
        return float(ttl)
    try:
        payload = str(data["access_token"]).split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"]) - clock.wall()
    except (IndexError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 0.0
