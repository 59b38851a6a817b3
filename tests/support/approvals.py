"""Control groups on a real server: one who writes, one who approves, and what they see."""

from __future__ import annotations

import contextlib
import json
import secrets
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.stack import BIN, Stack, running_stack

ALL = ("create", "update", "delete", "read", "list")
WRITES = ("create", "update", "delete")


def guarded(
    path: str, *, ttl: str = "1h", controlled: tuple[str, ...] = WRITES, sudo: bool = False
) -> str:
    """A policy stanza that allows everything at a path and guards the controlled part."""
    head = f'ttl = "{ttl}"' if ttl else ""
    return f"""
path "{path}" {{
  capabilities = {json.dumps([*ALL, *(["sudo"] if sudo else [])])}
  control_group = {{
    {head}
    factor "ops" {{
      controlled_capabilities = {json.dumps(list(controlled))}
      identity {{ group_names = ["ops"] approvals = 1 }}
    }}
  }}
}}"""


def free(path: str, *capabilities: str) -> str:
    return f'path "{path}" {{ capabilities = {json.dumps(list(capabilities or ALL))} }}'


def only(stanza: str, *names: str) -> str:
    """The stanza with these as the only parameters that it allows."""
    allowed = ", ".join(f'"{name}" = []' for name in names)
    return f"{stanza.rstrip()[:-1]}  allowed_parameters = {{ {allowed} }}\n}}"


# What an operator of mounts needs besides the paths that a test guards.
BASE = "\n".join(
    [
        free("sys/mounts", "read"),
        free("sys/mounts/*"),
        free("sys/config/auditing/request-headers", "read"),
        free("sys/config/auditing/request-headers/*", "create", "read", "update", "sudo"),
        free("sys/plugins/catalog/*", "create", "read", "update", "delete", "list", "sudo"),
        free("sys/plugins/catalog", "read", "sudo"),
        free("sys/plugins/reload/backend", "update", "sudo"),
        free("sys/ha-status", "read"),
        free("sys/control-group/request", "create", "update"),
    ]
)


@dataclass
class Approvals:
    """One server, an operator whose policy a test sets, and an approver.

    With a ``namespace`` all of it is in there: logins, group, mounts and commands.
    """

    stack: Stack
    namespace: str = ""
    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    approver: str = field(default="", repr=False)
    told: str = ""

    def set_up(self) -> Approvals:
        self.api("POST", "sys/auth/userpass", {"type": "userpass"})
        self.api("PUT", "sys/policies/acl/approver", {"policy": free("sys/control-group/*")})
        self.user("otto", "approver")
        self.approver = self.login("otto")
        whoami = self.api("GET", "auth/token/lookup-self", token=self.approver)[1]
        entity = whoami["data"]["entity_id"]
        self.api("POST", "identity/group/name/ops", {"member_entity_ids": [entity]})
        return self

    def user(self, name: str, *policies: str) -> None:
        self.passwords[name] = secrets.token_hex(12)
        body = {"password": self.passwords[name], "token_policies": list(policies)}
        self.api("POST", f"auth/userpass/users/{name}", body)

    def login(self, name: str) -> str:
        body = {"password": self.passwords[name]}
        return self.api("POST", f"auth/userpass/login/{name}", body, token="")[1]["auth"][
            "client_token"
        ]

    def operator(self, *stanzas: str, name: str = "ana") -> str:
        """A token of an operator who may do all on the mounts, save what is guarded."""
        policy = "\n".join([BASE, free("skyflow/*"), *stanzas])
        assert self.api("PUT", f"sys/policies/acl/{name}", {"policy": policy})[0] == 204
        self.user(name, name)
        return self.login(name)

    def request(self, accessor: str) -> tuple[int, dict[str, Any]]:
        """What an approver sees of a parked request."""
        body = {"accessor": accessor}
        return self.api("POST", "sys/control-group/request", body, token=self.approver)

    def approve(self, accessor: str) -> None:
        body = {"accessor": accessor}
        answer = self.api("POST", "sys/control-group/authorize", body, token=self.approver)
        assert answer[1]["data"]["approved"], answer

    def api(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """One plain call, as root unless a token is given: (status, parsed body)."""
        exports = self.stack.exports
        request = urllib.request.Request(
            f"{exports['BAO_ADDR']}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "X-Vault-Token": exports["BAO_TOKEN"] if token is None else token,
                **({"X-Vault-Namespace": self.namespace} if self.namespace else {}),
                **(headers or {}),
            },
        )
        context = ssl.create_default_context(cafile=exports["BAO_CACERT"])
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as reply:
                raw = reply.read()
                return reply.status, json.loads(raw) if raw else {}
        except urllib.error.HTTPError as error:
            raw = error.read()
            return error.code, json.loads(raw) if raw else {}

    def parked_ever(self) -> int:
        """How many requests the audit log shows as parked or wrapped so far."""
        entries = (json.loads(line) for line in self.stack.audit_log.read_text().splitlines())
        wraps = [(one.get("response") or {}).get("wrap_info") or {} for one in entries]
        return len({one["accessor"] for one in wraps if one.get("creation_path")})

    def waiting(self) -> dict[str, dict[str, Any]]:
        """What the server holds: by accessor, what an approver sees of it."""
        listed = self.api("LIST", "auth/token/accessors")[1]["data"]["keys"]
        seen = {one: self.request(one) for one in listed}
        return {one: body["data"] for one, (status, body) in seen.items() if status == 200}

    def withdraw_all(self) -> None:
        for accessor in self.waiting():
            self.api("POST", "auth/token/revoke-accessor", {"accessor": accessor})

    def env(self, token: str, **more: str) -> dict[str, str]:
        """The environment of a command as this login."""
        null = "keyring.backends.null.Keyring"
        return {"BAO_TOKEN": token, "PYTHON_KEYRING_BACKEND": null, **more}

    def run(self, token: str, *args: str, check: int | None = 0, **more: str) -> dict[str, Any]:
        """Run a command as this login and return its whole envelope."""
        within = ("-n", self.namespace) if self.namespace else ()
        done = self.stack.cli(
            *args, *within, "-o", "json", check=None, exported=True, env=self.env(token, **more)
        )
        self.told = done.stderr
        envelope = json.loads(done.stdout)
        if check is not None:
            assert done.returncode == check, (args, done.returncode, envelope, done.stderr)
        return envelope

    @contextlib.contextmanager
    def waiting_command(self, token: str, *args: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command with ``-o json`` that waits for an approval, and say when it does."""
        process = subprocess.Popen(
            [str(BIN / "skyflowctl"), *args, "--wait-approval", "5m", "-o", "json"],
            env={**self.stack.environ, **self.stack.exports, **self.env(token)},
            cwd=self.stack.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr
            told = iter(process.stderr.readline, "")
            assert any("waiting for an approval" in line for line in told), process.wait(5)
            yield process
        finally:
            process.kill()
            process.communicate()

    def write(
        self, token: str, text: str, *more: str, check: int | None = None, **env: str
    ) -> dict[str, Any]:
        """Write the description of ``order`` with ``config write``."""
        words = ("config", "write", "order", "--description", text, *more)
        return self.run(token, *words, check=check, **env)

    def config(self, mount: str = "order") -> dict[str, Any]:
        """What root reads of a mount's config."""
        return self.api("GET", f"skyflow/{mount}/config")[1]["data"]

    def description(self) -> str:
        """The live description of ``order``."""
        return self.config()["description"]


def codes(envelope: Mapping[str, Any]) -> list[str]:
    """The codes of an envelope's errors."""
    return [one["code"] for one in envelope["errors"]]


@contextlib.contextmanager
def running_approvals() -> Iterator[Approvals]:
    """A dev stack of its own with the example applied, and an approver."""
    with running_stack(apply=True) as stack:
        yield Approvals(stack).set_up()


class Proxy(ThreadingHTTPServer):
    """Plain HTTP in front of the stack's server; ``after(path)`` runs once an answer is there.

    If it returns True, the answer is dropped and the connection closed, as by a network that
    fails at the worst moment.
    """

    daemon_threads = True

    def __init__(self, stack: Stack, after: Callable[[str], bool]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stack = stack
        self.after = after
        self.seen: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        exports = self.server.stack.exports
        length = int(self.headers.get("Content-Length") or 0)
        skipped = {"host", "connection", "content-length", "accept-encoding"}
        headers = {n: v for n, v in self.headers.items() if n.lower() not in skipped}
        request = urllib.request.Request(
            exports["BAO_ADDR"] + self.path,
            method=self.command,
            data=self.rfile.read(length) if length else None,
            headers=headers,
        )
        context = ssl.create_default_context(cafile=exports["BAO_CACERT"])
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as reply:
                status, told, body = reply.status, reply.headers, reply.read()
        except urllib.error.HTTPError as error:
            status, told, body = error.code, error.headers, error.read()
        path = self.path.partition("?")[0].removeprefix("/v1/")
        self.server.seen.append(f"{self.command} {path}")
        if self.server.after(path):
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(status)
        for name in ("Content-Type", "X-Vault-Index", "X-Vault-Token"):
            if told.get(name):
                self.send_header(name, told[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _forward  # noqa: N815

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def proxy(stack: Stack, after: Callable[[str], bool]) -> Iterator[Proxy]:
    server = Proxy(stack, after)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
