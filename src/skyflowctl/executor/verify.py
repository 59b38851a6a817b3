"""Verifies that the applied roles give tokens: one mint per role with the live credential."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal

from skyflowctl.concurrency import Workers
from skyflowctl.errors import Problem
from skyflowctl.executor.outcome import unforeseen
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Mount
from skyflowctl.retry import is_transient
from skyflowctl.skyflow.token_uri import token_uri_refused
from skyflowctl.vault.errors import (
    ALLOW_HOST_FIX,
    BadRequestError,
    NotFoundError,
    PluginMissingError,
    VaultError,
)
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.responses import RoleResult, VerifyReport
from skyflowctl.vault.role_tokens import role_tokens


@dataclass(frozen=True, slots=True)
class VerifiedRole:
    """Whether a role of the manifest gives a token.

    Args:
        mount: the manifest's name of the mount.
        role: its name; empty: a mount without roles, tried without a scope.
        result: ``ok``; ``refused`` by the token service; or ``unproven``: no answer.
        problem: why it gives none; None if it is ok.
    """

    mount: str
    role: str
    result: Literal["ok", "refused", "unproven"]
    problem: Problem | None = None


def verify_roles(
    gateway: Gateway, mounts: Sequence[Mount], parallelism: int, minting: Collection[str] = ()
) -> tuple[tuple[VerifiedRole, ...], tuple[Problem, ...]]:
    """Make each mount mint once for every role; failures are returned, not raised.

    ``minting`` names mounts whose engine has just done so for every role; it is not asked again.

    Returns:
        The roles that the manifest names, and a warning for each other role that does not mint.
    """
    with Workers(parallelism) as pool:
        asked = [mount for mount in mounts if mount.name not in minting]
        reports = pool.map(lambda mount: live_roles(gateway, mount.path), asked)
    found = {mount.name: report for mount, report in zip(asked, reports, strict=True)}
    pairs = [(mount, found.get(mount.name) or _all_minted(mount)) for mount in mounts]
    verified = tuple(one for mount, report in pairs for one in verified_roles(mount, report))
    others = tuple(one for mount, report in pairs for one in _undeclared(mount, report))
    return verified, others


def _all_minted(mount: Mount) -> VerifyReport:
    ok = RoleResult(ok=True, status=200, message="", request_id="", latency_ms=0.0, expires_at="")
    return VerifyReport("", 0, 0, dict.fromkeys([one.name for one in mount.roles] or [""], ok))


def live_roles(gateway: Gateway, path: str) -> VerifyReport | Problem:
    """Make a mount mint once for each of its roles; the problem is the reason if it could not."""
    try:
        return _verify(gateway, path)
    except VaultError as error:
        return error.problems[0]
    except Exception as error:  # noqa: BLE001 - what was applied must still be reported
        return unforeseen(path, error).problems[0]


def minting_roles(gateway: Gateway, path: str) -> frozenset[str]:
    """Return the names of the roles that mint now; empty if that cannot be asked."""
    report = live_roles(gateway, path)
    if isinstance(report, Problem):
        return frozenset()
    return frozenset(name for name, proof in report.roles.items() if proof.ok)


@dataclass(frozen=True, slots=True)
class LostRole:
    """A role that minted before and does not now.

    Args:
        name: of the role; empty: a mount without roles.
        why: the answer.
        transient: whether the next try may give a token.
    """

    name: str
    why: str
    transient: bool


def lost_roles(gateway: Gateway, path: str, before: Collection[str]) -> tuple[LostRole, ...]:
    """Return those of the roles that do not mint now, by name; sends nothing for no roles."""
    if not before:
        return ()
    report = live_roles(gateway, path)
    if isinstance(report, Problem):
        why = f"{report.summary}: {report.why}".rstrip(": ")
        passing = report.code != PluginMissingError.default_code
        return tuple(LostRole(name, why, passing) for name in sorted(before))
    proofs = {name: report.roles.get(name, _NOT_REPORTED) for name in sorted(before)}
    return tuple(
        LostRole(name, proof.message or f"status {proof.status}", is_transient(proof.status))
        for name, proof in proofs.items()
        if not proof.ok
    )


_NOT_REPORTED = RoleResult(
    ok=False, status=404, message="it was not reported", request_id="", latency_ms=0, expires_at=""
)


def _verify(gateway: Gateway, path: str) -> VerifyReport:
    try:
        return gateway.engine(path).verify()
    except NotFoundError as error:
        if type(error) is not NotFoundError:
            raise
        return _through_creds(gateway, path)


def _through_creds(gateway: Gateway, path: str) -> VerifyReport:
    """Read a token of each role, because an engine with the basic API has no verification.

    It answers 400 for every cause of a missing token, so a 400 counts as a refusal.
    """
    tokens = dict(role_tokens(gateway, path, gateway.engine(path).roles()))
    proofs = {
        name: RoleResult(
            ok=token.error is None,
            status=token.error.status if isinstance(token.error, BadRequestError) else 0,
            message=token.why,
            request_id="",
            latency_ms=token.latency_ms,
            expires_at="",
        )
        for name, token in tokens.items()
    }
    return VerifyReport("", 0, 0, proofs)


def verified_roles(
    mount: Mount, report: VerifyReport | Problem, retry: str = "'skyflowctl health {}' asks again"
) -> Iterator[VerifiedRole]:
    """Yield the result of each role that the manifest names.

    Args:
        mount: the manifest's mount.
        report: the report of the engine or the token service, or the problem without one.
        retry: the command that verifies a role again; ``{}`` is the mount.
    """
    fix = f"{retry.format(mount.name)}; --require-verified makes it an error"
    for role in [one.name for one in mount.roles] or [""]:
        if isinstance(report, Problem):
            why = f"{report.summary}: {report.why}".rstrip(": ")
            yield _unproven(mount, role, why, fix)
            continue
        proof = report.roles.get(role)
        if proof is None:
            yield _unproven(mount, role, "the engine did not report it", fix)
        elif proof.ok:
            yield VerifiedRole(mount.name, role, "ok")
        elif token_uri_refused(proof.message):
            yield VerifiedRole(mount.name, role, "refused", _not_asked(mount, role, proof))
        elif is_transient(proof.status):
            yield _unproven(mount, role, proof.message or f"status {proof.status}", fix)
        else:
            yield VerifiedRole(mount.name, role, "refused", _refused(mount, role, proof))


def unverified(roles: Iterable[VerifiedRole], *, require_all: bool) -> tuple[Problem, ...]:
    """Return why roles give no token or, with ``require_all``, could not be verified."""
    wrong = {"refused", "unproven"} if require_all else {"refused"}
    return tuple(one.problem for one in roles if one.problem and one.result in wrong)


def _undeclared(mount: Mount, report: VerifyReport | Problem) -> Iterator[Problem]:
    """Yield a warning for each role that the manifest does not name and that does not mint."""
    if isinstance(report, Problem) or not mount.roles:
        return
    declared = {role.name for role in mount.roles}
    for name, proof in sorted(report.roles.items()):
        if name in declared or proof.ok:
            continue
        yield Problem(
            "undeclared-role",
            f"{_place(mount, name)} does not mint, and is not in the manifest",
            f"{proof.message or f'status {proof.status}'}; 'skyflowctl health {mount.name}' is "
            "not ok as long as this role is there",
            f"'skyflowctl role show {mount.name} {name}' shows it; name it in the manifest with "
            f"a role id that the key has, or 'bao delete {mount.path}/roles/{name}'",
        )


def _unproven(mount: Mount, role: str, why: str, fix: str) -> VerifiedRole:
    summary = f"whether {_place(mount, role)} mints could not be verified"
    return VerifiedRole(mount.name, role, "unproven", Problem("unproven", summary, why, fix))


def _refused(mount: Mount, role: str, proof: RoleResult) -> Problem:
    exchange = f" (request id {proof.request_id})" if proof.request_id else ""
    return Problem(
        "role-refused",
        f"{_place(mount, role)} does not mint",
        f"the token service refused it: {proof.status} {proof.message}{exchange}",
        "give the service account that Skyflow role, or correct role_ids in the manifest; then "
        "run the same command again",
        next((one.where for one in mount.roles if one.name == role), mount.where),
    )


def _not_asked(mount: Mount, role: str, proof: RoleResult) -> Problem:
    return Problem(
        "token-uri-refused",
        f"{_place(mount, role)} does not mint",
        f"no token service was asked: {proof.message}",
        f"{ALLOW_HOST_FIX}; where skyflowctl itself asks, give it --allow-host",
        mount.where,
    )


def _place(mount: Mount, role: str) -> str:
    return f"{mount.path}/roles/{role}" if role else mount.path
