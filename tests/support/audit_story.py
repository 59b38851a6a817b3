"""Applications that ask a real server for tokens, and an own list of what they did.

The list is kept from what each caller sent and was answered, never from the audit log, so
that what the log is read to say can be compared with it.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from support.cluster import wait_until
from support.stack import Stack

ORDER, PURCHASE, PAYMENT = "skyflow/order", "skyflow/purchase", "skyflow/payment"
Answer = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class Http:
    """Plain HTTP to one server."""

    address: str
    context: ssl.SSLContext

    def send(
        self,
        token: str,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request: its status and its parsed answer, whatever the status is."""
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={**(headers or {}), **({"X-Vault-Token": token} if token else {})},
        )
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=30) as reply:
                status, raw = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            status, raw = error.code, error.read()
        return status, json.loads(raw) if raw else {}


@dataclass(frozen=True)
class App:
    """A login: its own name and method as the audit must name them, and its token."""

    name: str
    auth: str
    token: str = field(repr=False)


@dataclass
class Asked:
    """One request for a token, as whoever sent it knows it."""

    app: str
    auth: str
    mount: str
    role: str
    ctx: str | None
    outcome: str
    claimed: str | None = None
    request_id: str | None = None
    key_id: str | None = None
    run_id: str | None = None
    wrapped: bool = False
    unwrapped_by: str | None = None
    bearer: str = field(default="", repr=False)


_OUTCOMES = {200: "granted", 400: "refused", 403: "denied"}


@dataclass
class Story:
    """What was done, in the order in which it was done."""

    http: Http
    asked: list[Asked] = field(default_factory=list)

    def ask(
        self,
        app: App,
        mount: str,
        role: str,
        ctx: str | Mapping[str, Any] | None = None,
        *,
        claimed: str | None = None,
        wrap: bool = False,
    ) -> Asked:
        """Have an app ask for a token; an object ctx goes in a body."""
        headers = {"Application-Source": claimed} if claimed else {}
        headers |= {"X-Vault-Wrap-TTL": "120s"} if wrap else {}
        path = f"{mount}/creds/{role}"
        if isinstance(ctx, Mapping):
            status, body = self.http.send(app.token, "POST", path, {"ctx": ctx}, headers)
        else:
            query = f"?ctx={ctx}" if ctx else ""
            status, body = self.http.send(app.token, "GET", path + query, None, headers)
        data = body.get("data") or {}
        text = json.dumps(ctx, separators=(",", ":")) if isinstance(ctx, Mapping) else ctx
        one = Asked(app.name, app.auth, mount, role, text, _OUTCOMES[status], claimed)
        one.request_id = body.get("request_id") or None
        one.key_id, one.bearer = data.get("key_id"), data.get("access_token") or ""
        if wrap:
            one.wrapped, one.bearer = True, body["wrap_info"]["token"]
        self.asked.append(one)
        return one

    def unwrap(self, app: App, wrapped: Asked) -> None:
        """Have another login open what was handed out wrapped."""
        body = {"token": wrapped.bearer}
        status, answer = self.http.send(app.token, "POST", "sys/wrapping/unwrap", body)
        assert status == 200, answer
        wrapped.unwrapped_by = app.name
        wrapped.bearer = answer["data"]["access_token"]

    def those(self, wanted: Callable[[Asked], bool] = lambda _: True) -> list[Asked]:
        """The requests that a question should find, in their order."""
        return [one for one in self.asked if wanted(one)]


def http_of(stack: Stack) -> Http:
    """Plain HTTP to a dev stack."""
    context = ssl.create_default_context(cafile=stack.exports["BAO_CACERT"])
    return Http(stack.exports["BAO_ADDR"], context)


def reads(*paths: str) -> str:
    """A policy that lets its holder ask for these roles' tokens."""
    rule = 'path "{}" {{ capabilities = ["read", "update"] }}'
    return "\n".join(rule.format(path) for path in paths)


class Admin:
    """Sets up logins as an operator does, over plain HTTP with the root token."""

    def __init__(self, http: Http, token: str) -> None:
        self._http = http
        self._token = token

    def do(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request that has to work."""
        status, answer = self._http.send(self._token, method, path, body)
        assert status in {200, 204}, (path, answer)
        return answer

    def policy(self, name: str, text: str) -> None:
        """Write a policy."""
        self.do("PUT", f"sys/policies/acl/{name}", {"policy": text})

    def approle(
        self, name: str, policies: Iterable[str], at: Http | None = None, **fields: Any
    ) -> App:
        """An application with a role id, and a secret id whose metadata name another one.

        ``at``: the node that it logs in at, once that node knows the role.
        """
        role = f"auth/approle/role/{name}"
        self.do("POST", role, {"token_policies": list(policies), **fields})
        role_id = self.do("GET", f"{role}/role-id")["data"]["role_id"]
        claims = {"metadata": json.dumps({"role_name": "mallory", "username": "mallory"})}
        secret_id = self.do("POST", f"{role}/secret-id", claims)["data"]["secret_id"]
        body = {"role_id": role_id, "secret_id": secret_id}
        return App(name, "approle", self._login("auth/approle/login", body, at))

    def user(self, name: str, password: str, policies: Iterable[str]) -> App:
        """A person with a password."""
        fields = {"password": password, "token_policies": list(policies)}
        self.do("POST", f"auth/userpass/users/{name}", fields)
        token = self._login(f"auth/userpass/login/{name}", {"password": password})
        return App(name, "userpass", token)

    def plain_token(self, name: str, policies: Iterable[str], **meta: str) -> App:
        """A token that an operator made by hand; ``meta`` is the operator's choice too."""
        body = {"display_name": name, "policies": list(policies), "meta": meta}
        made = self.do("POST", "auth/token/create", body)["auth"]["client_token"]
        return App(f"token-{name}", "token", made)

    def _login(self, path: str, body: object, at: Http | None = None) -> str:
        answers: list[Answer] = []

        def logged_in() -> bool:
            answers.append((at or self._http).send("", "POST", path, body))
            return answers[-1][0] == 200

        wait_until(logged_in, f"no login at {path}", 15)
        return answers[-1][1]["auth"]["client_token"]


def now() -> str:
    """This moment as ``--since`` takes it, between a request and the next."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
