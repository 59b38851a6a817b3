"""Audit logs of the real shape (field for field what OpenBao 2.7 writes), built in memory.

Build events on a ``Story``; render what one device wrote with ``story.device("a")``. Texts
that a device hashes are ``Hashed``; every device hashes them in its own way.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from skyflowctl.clock import rfc3339

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
DENIED = "1 error occurred:\n\t* permission denied\n\n"
FORWARD = "1 error occurred:\n\t* cannot write to readonly storage\n\n"


class Hashed(str):
    """A text that an audit device hashes."""

    __slots__ = ()


def hashed(text: str, salt: str = "a") -> str:
    """What the device with this salt writes for a text."""
    digest = hmac.new(salt.encode(), text.encode(), hashlib.sha256).hexdigest()
    return f"hmac-sha256:{digest}"


def render(value: Any, salt: str) -> Any:
    """Replace what a device hashes."""
    if isinstance(value, Hashed):
        return hashed(str(value), salt)
    if isinstance(value, dict):
        return {key: render(each, salt) for key, each in value.items()}
    if isinstance(value, list):
        return [render(each, salt) for each in value]
    return value


def line(entry: Any) -> bytes:
    """One line as Go writes it: compact, with <, > and & escaped."""
    text = json.dumps(entry, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode() + b"\n"


def stamp(moment: datetime) -> str:
    """A time as Go writes it: trailing zeros of the fraction dropped."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return text + "Z"


@dataclass(frozen=True)
class Token:
    """A token of the server, as its entries' ``auth`` shows it."""

    name: str
    display_name: str
    policies: tuple[str, ...] = ("default",)
    metadata: dict[str, str] = field(default_factory=dict)
    entity_id: str = ""
    kind: str = "service"

    def auth(self, *, allowed: bool | None = True) -> dict[str, Any]:
        """The block of a request; ``allowed`` None: of a login's answer."""
        block: dict[str, Any] = {"client_token": Hashed(f"s.{self.name}")}
        if self.kind == "service":
            block["accessor"] = Hashed(f"accessor-{self.name}")
        block["display_name"] = self.display_name
        block["policies"] = list(self.policies)
        block["token_policies"] = list(self.policies)
        if allowed is not None:
            block["policy_results"] = _results(self, allowed=allowed)
        if self.metadata:
            block["metadata"] = dict(self.metadata)
        if self.entity_id:
            block["entity_id"] = self.entity_id
        return {**block, "token_type": self.kind, "token_ttl": 2764800}


def _results(token: Token, *, allowed: bool) -> dict[str, Any]:
    if not allowed:
        return {"allowed": False}
    granting = {"name": token.policies[-1], "namespace_id": "root", "type": "acl"}
    return {"allowed": True, "granting_policies": [granting]}


ROOT = Token("root", "root", ("root",))


def approle(app: str, *, kind: str = "service", number: int = 0, policy: str = "") -> Token:
    """What a login with the AppRole ``app`` gives."""
    return Token(
        f"{app}-{number}",
        "approle",
        ("default", policy or f"{app}-policy"),
        {"role_name": app},
        f"entity-{app}",
        kind,
    )


def userpass(user: str, *, number: int = 0) -> Token:
    """What a login as ``user`` gives."""
    return Token(
        f"{user}-{number}",
        f"userpass-{user}",
        ("default", f"{user}-policy"),
        {"username": user},
        f"entity-{user}",
    )


def created(name: str, metadata: dict[str, str] | None = None) -> Token:
    """What auth/token/create gives with this display name."""
    return Token(name, f"token-{name}", ("default", f"{name}-policy"), metadata or {})


class Story:
    """Events in the order in which they happened; the time moves on with each.

    Args:
        plain_ctx: the mounts are tuned so that ctx stands in plain.
        plugin: type of the mounts.
        start: time of the first event.
        first_id: number of the first request id.
    """

    def __init__(
        self,
        *,
        plain_ctx: bool = False,
        plugin: str = "skyflow",
        start: datetime = START,
        first_id: int = 1,
    ) -> None:
        self.entries: list[dict[str, Any]] = []
        self.now = start
        self.plain_ctx = plain_ctx
        self.plugin = plugin
        self._ids = itertools.count(first_id)

    def device(self, salt: str = "a") -> bytes:
        """The whole log as one device wrote it."""
        return b"".join(self.lines(salt))

    def lines(self, salt: str = "a") -> list[bytes]:
        """The lines that one device wrote."""
        return [line(render(entry, salt)) for entry in self.entries]

    def wait(self, **span: float) -> None:
        """Let time pass."""
        self.now += timedelta(**span)

    def pair(
        self,
        token: Token | None,
        operation: str,
        path: str,
        *,
        mount: tuple[str, str] = ("sys/", "system"),
        data: dict[str, Any] | None = None,
        response: dict[str, Any] | None = None,
        error: str = "",
        allowed: bool = True,
        headers: dict[str, str] | None = None,
        request_id: str = "",
        answered: bool = True,
        extra: dict[str, Any] | None = None,
        namespace: dict[str, str] | None = None,
    ) -> str:
        """Add a request and its response; returns the request's id."""
        number = next(self._ids)
        request_id = request_id or f"{number:08x}-0000-4000-8000-{number:012x}"
        auth = {"token_type": "default"} if token is None else token.auth(allowed=allowed)
        request = {
            "id": request_id,
            "client_id": "0DHqvq2D77kL2/JTPSZkTMJbkFVmUu0TzMi0jiXcFy8=",
            "operation": operation,
            "mount_point": mount[0],
            "mount_type": mount[1],
            "mount_accessor": f"{mount[1]}_53f14e83",
            "mount_running_version": "v1.0.0",
            "mount_class": "auth" if mount[0].startswith("auth/") else "secret",
            "client_token": auth.get("client_token", Hashed("s.bad")),
            "namespace": namespace or {"id": "root"},
            "path": path,
            **({"data": data} if data else {}),
            "remote_address": "127.0.0.1",
            "remote_port": 34680,
            **(extra or {}),
            **({"headers": {key: [value] for key, value in headers.items()}} if headers else {}),
        }
        self._add("request", auth, request, None, error if not allowed else "")
        self.wait(milliseconds=7)
        if answered:
            answer = dict(response or {})
            # A server writes the issued token first.
            issued = {"auth": answer.pop("auth")} if "auth" in answer else {}
            self._add("response", auth, request, {**issued, **_of_mount(mount), **answer}, error)
        self.wait(milliseconds=3)
        return request_id

    def _add(
        self,
        kind: str,
        auth: dict[str, Any],
        request: dict[str, Any],
        response: dict[str, Any] | None,
        error: str,
    ) -> None:
        entry: dict[str, Any] = {"time": stamp(self.now), "type": kind, "auth": auth}
        entry["request"] = request
        if response is not None:
            entry["response"] = response
        if error:
            entry["error"] = error
        self.entries.append(entry)

    def login(self, token: Token) -> Token:
        """Add the login that gave this token."""
        if token.display_name.startswith("token-"):
            path, mount = "auth/token/create", ("auth/token/", "token")
        elif "username" in token.metadata:
            user = token.metadata["username"]
            path, mount = f"auth/userpass/login/{user}", ("auth/userpass/", "userpass")
        else:
            path, mount = "auth/approle/login", ("auth/approle/", "approle")
        answer = {"auth": token.auth(allowed=None)}
        creator = ROOT if mount[1] == "token" else None
        self.pair(creator, "update", path, mount=mount, response=answer)
        return token

    def creds(
        self,
        token: Token | None,
        ctx: Any = None,
        *,
        mount: str = "skyflow/order",
        role: str = "order-producer",
        outcome: str = "granted",
        key_id: str = "k1",
        bearer: str = "",
        wrap: str = "",
        run: str = "",
        claimed: str = "",
        plain: bool | None = None,
        **more: Any,
    ) -> str:
        """Add a request for a token.

        ``outcome``: granted, denied, refused (400, hashed), refused-by-skyflow, failed,
        forward, unknown. ``wrap``: name of the wrapping token.
        """
        plain = self.plain_ctx if plain is None else plain
        bearer = bearer or f"bearer-{len(self.entries)}"
        headers = {"application-source": claimed, "x-skyflowctl-run": run}
        return self.pair(
            token,
            more.pop("operation", "update" if isinstance(ctx, dict) else "read"),
            f"{mount}/creds/{role}",
            mount=(f"{mount}/", self.plugin),
            data={} if ctx is None else {"ctx": ctx if plain else _hash_all(ctx)},
            response=_answer(outcome, bearer, key_id, wrap),
            error=_ERRORS.get(outcome, ""),
            allowed=outcome != "denied",
            answered=outcome != "unknown",
            headers={key: value for key, value in headers.items() if value},
            extra={"wrap_ttl": 60} if wrap else None,
            **more,
        )

    def sign(
        self,
        token: Token,
        ctx: str = "",
        *,
        mount: str = "skyflow/order",
        role: str = "order-producer",
        data_tokens: tuple[str, ...] = ("5479-4229",),
        outcome: str = "granted",
        key_id: str = "k1",
        ttl: int | None = None,
        **more: Any,
    ) -> str:
        """Add a request for signed data tokens."""
        asked: dict[str, Any] = {"data_tokens": _hash_all(list(data_tokens))}
        asked |= {"ctx": ctx if self.plain_ctx else Hashed(ctx)} if ctx else {}
        asked |= {"ttl": ttl} if ttl is not None else {}
        expiry = rfc3339(self.now + timedelta(seconds=ttl or 60))
        signed = [
            {"data_token": Hashed(one), "signed_data_token": Hashed(f"signed_token_{one}")}
            for one in data_tokens
        ]
        answer = {"data": {"expires_at": expiry, "key_id": key_id, "signed_data_tokens": signed}}
        return self.pair(
            token,
            "update",
            f"{mount}/sign/{role}",
            mount=(f"{mount}/", self.plugin),
            data=asked,
            response=answer if outcome == "granted" else _answer(outcome, "", "", ""),
            error=_ERRORS.get(outcome, ""),
            allowed=outcome != "denied",
            **more,
        )

    def unwrap(self, wrap: str, bearer: str, *, by: Token | None = None) -> str:
        """Add the unwrap of a wrapped answer: by a token, or with the wrapping token itself."""
        holder = Token(wrap, "approle", ("response-wrapping",))
        return self.pair(
            by or holder,
            "update",
            "sys/wrapping/unwrap",
            data={"token": Hashed(f"s.{wrap}")} if by else None,
            response=_answer("granted", bearer, "k1", "") if bearer else None,
        )

    def config(
        self,
        data: dict[str, Any] | None,
        *,
        path: str = "config",
        operation: str = "update",
        mount: str = "skyflow/order",
        key_id: str = "k1",
        run: str = "",
        outcome: str = "granted",
        token: Token = ROOT,
    ) -> str:
        """Add a request on the mount's config; texts of ``data`` are hashed."""
        answer = {"data": {"key_id": key_id, "credential_version": 1, "version": 1}}
        return self.pair(
            token,
            operation,
            f"{mount}/{path}",
            mount=(f"{mount}/", self.plugin),
            data=_hash_all(data or {}),
            response=answer if outcome == "granted" else _answer(outcome, "", "", ""),
            error=_ERRORS.get(outcome, ""),
            allowed=outcome != "denied",
            headers={"x-skyflowctl-run": run} if run else None,
        )

    def rotation(self, *, mount: str = "skyflow/order", to: str = "k2", run: str = "run1") -> None:
        """Add what ``skyflowctl rotate`` sends: opened, aimed, proved, written, committed."""
        opened = {"cas": 1, "rotation_id": "r1", "rotation_keys": ["k1"]}
        self.config(opened, mount=mount, run=run)
        self.config({"cas": 2, "rotation_id": "r1", "rotation_to": to}, mount=mount, run=run)
        proof = {"credentials_json": "{}"}
        self.config(proof, path="config/verify", mount=mount, run=run, key_id=to)
        written = {"cas": 3, "rotation_id": "r1", "credentials_json": "{}"}
        self.config(written, mount=mount, run=run, key_id=to)
        done = {"rotation_id": "r1"}
        self.config(done, path="config/commit", mount=mount, run=run, key_id=to)


_ERRORS = {
    "denied": DENIED,
    "forward": FORWARD,
    "refused-by-skyflow": "1 error occurred:\n\t* token service refused: 401 permission denied "
    "(request id 35f47f4377e2ae7207100ceb76ff39d2)\n\n",
    "failed": "1 error occurred:\n\t* skyflow: the token service did not answer in time\n\n",
}


def _answer(outcome: str, bearer: str, key_id: str, wrap: str) -> dict[str, Any]:
    if outcome in ("denied", "refused"):
        return {"data": {"error": Hashed(f"why: {outcome}")}}
    if outcome != "granted":
        return {}
    if wrap:
        info = {"ttl": 60, "token": Hashed(f"s.{wrap}"), "accessor": Hashed(f"accessor-{wrap}")}
        return {"wrap_info": info}
    return {
        "data": {
            "access_token": Hashed(bearer),
            "credential_version": 1,
            "expires_at": "2026-11-22T19:44:11Z",
            "key_id": key_id,
            "token_type": Hashed("Bearer"),
            "ttl": 3599,
        }
    }


def _of_mount(mount: tuple[str, str]) -> dict[str, Any]:
    return {"mount_point": mount[0], "mount_type": mount[1], "mount_class": "secret"}


def _hash_all(value: Any) -> Any:
    if isinstance(value, str):
        return Hashed(value)
    if isinstance(value, dict):
        return {key: _hash_all(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_hash_all(each) for each in value]
    return value


def written(folder: Path, name: str, content: bytes | Iterable[bytes]) -> str:
    """Write a log file; returns its path as text."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else b"".join(content))
    return str(path)


def three_apps(*, plain_ctx: bool = False) -> Story:
    """A story with all that is asked about: three apps, a wrapped one, a denied one, a
    rotation, a forward."""
    story = Story(plain_ctx=plain_ctx)
    orders = story.login(approle("orders"))
    bob = story.login(userpass("bob"))
    legacy = story.login(created("legacy"))
    story.config({"cas": 0, "credentials_json": "{}"}, run="run0")
    story.creds(orders, "order:1", claimed="orders-api", bearer="b1")
    story.creds(bob, "order:2", bearer="b2")
    story.creds(legacy, bearer="b3")
    story.creds(orders, "order:9", wrap="w1")
    story.unwrap("w1", "b9", by=bob)
    story.creds(bob, "order:3", role="order-admin", outcome="denied")
    story.rotation()
    story.creds(orders, "order:1", key_id="k2")
    story.creds(orders, "order:4", outcome="forward", operation="update")
    return story
