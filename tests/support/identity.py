"""Stand-ins for what applications log in with: an issuer of JSON Web Tokens, a cluster, a CA."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

GITHUB = "https://token.actions.githubusercontent.com"
GITLAB = "https://gitlab.shop.example"


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Issuer:
    """Signs tokens in the claim shapes of GitHub Actions and GitLab CI."""

    key: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        repr=False,
    )

    @cached_property
    def public(self) -> str:
        return (
            self.key.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    @property
    def jwks(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        parts = {
            name: _b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))
            for name, value in (("n", numbers.n), ("e", numbers.e))
        }
        return {"keys": [{"kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256", **parts}]}

    def sign(self, **claims: Any) -> str:
        now = int(time.time())
        head = {"alg": "RS256", "typ": "JWT", "kid": "one"}
        body = {"iat": now, "nbf": now - 5, "exp": now + 300, "jti": str(now), **claims}
        text = ".".join(_b64(json.dumps(part).encode()) for part in (head, body))
        made = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_b64(made)}"

    def github(self, **changes: Any) -> str:
        """A token as a job of shop/order on main gets it, with changed claims."""
        claims = {
            "iss": GITHUB,
            "aud": "https://github.com/shop",
            "sub": "repo:shop/order:ref:refs/heads/main",
            "repository": "shop/order",
            "repository_owner": "shop",
            "repository_id": "74",
            "ref": "refs/heads/main",
            "ref_type": "branch",
            "ref_protected": "true",
            "workflow": "deploy",
            "event_name": "push",
            "actor": "octocat",
            "runner_environment": "github-hosted",
        }
        return self.sign(**{**claims, **changes})

    def gitlab(self, **changes: Any) -> str:
        """An id token as a job of shop/order on main gets it, with changed claims."""
        claims = {
            "iss": GITLAB,
            "aud": "https://bao.shop.example",
            "sub": "project_path:shop/order:ref_type:branch:ref:main",
            "project_path": "shop/order",
            "project_id": "22",
            "namespace_path": "shop",
            "ref": "main",
            "ref_type": "branch",
            "ref_protected": "true",
            "pipeline_source": "push",
            "user_login": "sample",
        }
        return self.sign(**{**claims, **changes})

    def service_account(self, namespace: str, name: str) -> str:
        """A token as the pods of a service account get it."""
        account = {"name": name, "uid": _uid(namespace, name)}
        return self.sign(
            iss="https://kubernetes.default.svc",
            aud=["https://kubernetes.default.svc"],
            sub=f"system:serviceaccount:{namespace}:{name}",
            **{"kubernetes.io": {"namespace": namespace, "serviceaccount": account}},
        )


def _uid(namespace: str, name: str) -> str:
    return f"uid-{namespace}-{name}"


def client_certificate(ca: trustme.CA, folder: Path, name: str) -> Path:
    """A file with a client's certificate for this common name, and its key."""
    made = ca.issue_cert(name, common_name=name)
    file = folder / f"{name}.pem"
    made.private_key_and_cert_chain_pem.write_to_path(str(file))
    return file


@dataclass
class Cluster:
    """A Kubernetes API server that only reviews tokens: by text, NAMESPACE/NAME."""

    address: str
    ca: str
    accounts: dict[str, str] = field(default_factory=dict)
    asked_with: list[str] = field(default_factory=list)


@contextlib.contextmanager
def token_review_server() -> Iterator[Cluster]:
    """Serve TokenReview over TLS on loopback."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    cluster = Cluster("", authority.cert_pem.bytes().decode())

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["content-length"])
            asked = json.loads(self.rfile.read(size))
            cluster.asked_with.append(self.headers.get("authorization", ""))
            status = _review(cluster, asked["spec"])
            _send(self, {**asked, "status": status}, 201)

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler, context) as port:
        cluster.address = f"https://127.0.0.1:{port}"
        yield cluster


def _review(cluster: Cluster, spec: dict[str, Any]) -> dict[str, Any]:
    account = cluster.accounts.get(spec["token"])
    if account is None:
        return {"authenticated": False, "error": "unknown token"}
    namespace, _, name = account.partition("/")
    user = {
        "username": f"system:serviceaccount:{namespace}:{name}",
        "uid": _uid(namespace, name),
        "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
    }
    return {"authenticated": True, "user": user, "audiences": spec.get("audiences") or []}


def _send(handler: BaseHTTPRequestHandler, body: object, status: int = 200) -> None:
    raw = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(raw)))
    handler.end_headers()
    handler.wfile.write(raw)


@contextlib.contextmanager
def discovery_server(issuer: Issuer, person: dict[str, Any] | None = None) -> Iterator[str]:
    """Serve an issuer's discovery document and keys on loopback; yield its address.

    Any code is exchanged for a token with the claims in ``person``.
    """
    address = ""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_keys = self.path == "/keys"
            found = {
                "issuer": address,
                "jwks_uri": f"{address}/keys",
                "authorization_endpoint": f"{address}/authorize",
                "token_endpoint": f"{address}/token",
            }
            _send(self, issuer.jwks if is_keys else found)

        def do_POST(self) -> None:
            token = issuer.sign(iss=address, **(person or {}))
            _send(self, {"access_token": "unused", "token_type": "Bearer", "id_token": token})

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler) as port:
        address = f"http://127.0.0.1:{port}"
        yield address


@contextlib.contextmanager
def _serving(
    handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext | None = None
) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
