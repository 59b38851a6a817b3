"""Logs in as a consumer, by what it logs in with itself or with the policies of its login alone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from skyflowctl.errors import NotPermittedError, Problem, RefusedError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Consumer
from skyflowctl.secret import Secret
from skyflowctl.vault.approle import AppRoleApi
from skyflowctl.vault.errors import BadRequestError, ForbiddenError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import Request, Transport

By = Literal["login", "policy"]
_LOGIN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class LoginProof:
    """What a login that has no secret id is tried with; at most one of them.

    Args:
        jwt: a JSON Web Token, or the token of a Kubernetes service account.
        certificate: a client certificate and its key in PEM form.
    """

    jwt: Secret | None = None
    certificate: Secret | None = None


def check_proof(consumer: Consumer, proof: LoginProof) -> None:
    """Refuse a proof that a consumer's login does not take.

    Raises:
        UsageError: it is of another type.
    """
    takes_jwt = consumer.type in {"jwt", "kubernetes"}
    bad = "--jwt" if proof.jwt and not takes_jwt else ""
    bad = "--cert" if proof.certificate and consumer.type != "cert" else bad
    if bad:
        raise UsageError(
            f"{consumer.name} does not log in with {bad}",
            why=f"its login method is of the type {consumer.type}",
            fix=f"leave out {bad}",
            code="wrong-proof",
        )


@contextmanager
def logged_in(
    gateway: Gateway,
    consumer: Consumer,
    role: Mapping[str, Any],
    proof: LoginProof,
    warnings: list[Problem],
) -> Iterator[tuple[Gateway, By]]:
    """Log in as a consumer; at the end, revoke the token and destroy what was issued.

    Args:
        gateway: the operator's.
        consumer: an AppRole login gets a secret id for one login.
        role: its login role, after a look at who made it (see ``checked_role``).
        proof: what other logins are tried with; without one, the caller's token makes a child
            token with the same policies.
        warnings: gets what could not be cleaned up.

    Raises:
        NotPermittedError: the server refuses the login.
        RefusedError: no token with its policies can be made.
    """
    if consumer.type == "approle":
        api = AppRoleApi(gateway.transport, consumer.method, consumer.name)
        with (
            _by_secret_id(api, consumer, warnings) as token,
            _session(gateway, token, warnings) as login,
        ):
            yield login, "login"
        return
    is_proved = bool(proof.jwt or proof.certificate)
    token = _proved(gateway, consumer, proof) if is_proved else _child(gateway, consumer, role)
    with _session(gateway, token, warnings) as login:
        yield login, "login" if is_proved else "policy"


@contextmanager
def _session(gateway: Gateway, token: Secret, warnings: list[Problem]) -> Iterator[Gateway]:
    login = Gateway(gateway.transport.as_login(token))
    try:
        yield login
    finally:
        try:
            login.transport.send(Request("POST", "auth/token/revoke-self", idempotent=True))
        except VaultError as error:
            warnings.append(_left_over("the token of this check was not revoked", error))
        finally:
            login.close()


@contextmanager
def _by_secret_id(api: AppRoleApi, consumer: Consumer, warnings: list[Problem]) -> Iterator[Secret]:
    role_id = api.role_id()
    issued = api.issue_for_one_login(_LOGIN_SECONDS)
    try:
        with _naming_login(consumer, "run it on a machine whose address its cidrs include"):
            token = api.log_in(role_id, issued.secret)
        yield token
    finally:
        try:
            api.destroy(issued.accessor)
        except VaultError as error:
            what = f"the secret id {issued.accessor} still exists for {_LOGIN_SECONDS} s"
            warnings.append(_left_over(what, error))


def _proved(gateway: Gateway, consumer: Consumer, proof: LoginProof) -> Secret:
    path = f"auth/{consumer.method}/login"
    if proof.jwt:
        body = {"role": consumer.name, "jwt": proof.jwt.reveal()}
        with _naming_login(consumer, ""):
            return _token(gateway.transport, Request("POST", path, body=body))
    with _usable_certificate(proof.certificate):
        transport = gateway.transport.as_login(None, proof.certificate)
        try:
            with _naming_login(consumer, _OTHER_CERTIFICATE):
                return _token(transport, Request("POST", path, body={"name": consumer.name}))
        finally:
            transport.close()


_OTHER_CERTIFICATE = (
    "give a certificate that the login's authority issued and that has the names in the manifest"
)
_BAD_CERTIFICATE = "bad-client-certificate"


@contextmanager
def _usable_certificate(certificate: Secret | None) -> Iterator[None]:
    """Say how a certificate and its key are given, if they cannot be used.

    Raises:
        UsageError: they cannot.
    """
    why = "" if certificate and "PRIVATE KEY-----" in certificate.reveal() else "it has no key"
    try:
        if not why:
            yield
    except UsageError as error:
        if error.problems[0].code != _BAD_CERTIFICATE:
            raise
        why = error.problems[0].why
    if why:
        raise UsageError(
            "the value of --cert cannot be used as a client certificate",
            why=why,
            fix="put the certificate and its key, without a passphrase, into one PEM file: "
            "cat edge.crt edge.key > edge.pem",
            code=_BAD_CERTIFICATE,
        )


def _child(gateway: Gateway, consumer: Consumer, role: Mapping[str, Any]) -> Secret:
    body = {
        "policies": list(role.get("token_policies") or ()),
        "no_default_policy": bool(role.get("token_no_default_policy")),
        "ttl": f"{_LOGIN_SECONDS}s",
        "renewable": False,
    }
    try:
        return _token(gateway.transport, Request("POST", "auth/token/create", body=body))
    except (BadRequestError, ForbiddenError) as error:
        flag = "--cert" if consumer.type == "cert" else "--jwt"
        raise RefusedError(
            f"cannot make a token with the policies of {consumer.name}",
            why=f"this login may not: {error.problems[0].why or error.problems[0].summary}",
            fix=f"try the login itself: skyflowctl consumer check {consumer.name} {flag}=file:PATH",
            code="no-child-token",
        ) from error


def _token(transport: Transport, request: Request) -> Secret:
    auth = transport.send(request).body.get("auth") or {}
    return Secret(str(auth["client_token"]))


@contextmanager
def _naming_login(consumer: Consumer, fix: str) -> Iterator[None]:
    """Turn the server's refusal of a login into ours.

    Args:
        consumer: who logs in.
        fix: what to do; empty for a token, of which the server's reason tells it.
    """
    try:
        yield
    except VaultError as error:
        if not error.status or error.status >= 500:
            raise
        why = error.problems[0].why or error.problems[0].summary
        raise NotPermittedError(
            f"cannot log in as {consumer.name}",
            why=why,
            fix=fix or _other_token(consumer, why),
            code="cannot-log-in",
        ) from error


def _other_token(consumer: Consumer, why: str) -> str:
    """Return which token to give instead of one that the server refused."""
    if consumer.type == "kubernetes":
        return "give a current token of a service account that the manifest names"
    if any(word in why for word in ("claim", "subject", "audience")):
        return f"give a token with the claims that the manifest names for {consumer.name}"
    return "give a token that has not expired and that the login method's issuer signed"


def _left_over(what: str, error: VaultError) -> Problem:
    return Problem("left-over", what, error.problems[0].summary, "run the same command again")
