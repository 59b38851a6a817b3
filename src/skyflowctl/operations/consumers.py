"""The logins of consumers: issues, lists, rotates and revokes the secret ids of AppRole logins."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from skyflowctl.errors import ExitCode, Problem, RefusedError, SkyflowctlError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Consumer, Manifest
from skyflowctl.planner.access import owner_of
from skyflowctl.text import name_one_of
from skyflowctl.vault.approle import AppRoleApi, SecretIdInfo, WrappedSecretId
from skyflowctl.vault.errors import NotFoundError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import login_role_path

_LOGS_IN_WITH = {
    "cert": "a client certificate",
    "jwt": "a JSON Web Token of its issuer",
    "kubernetes": "the token of a Kubernetes service account",
    "oidc": "an identity of its issuer",
}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class IssueRequest:
    """How a secret id is issued: how long it stays wrapped, its uses and addresses."""

    wrap_ttl: str
    num_uses: int | None = None
    cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IssuedSecretId:
    """A wrapped secret id, and the role id that it is used with."""

    role_id: str
    issued: WrappedSecretId


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """A consumer and its live secret ids.

    Args:
        exists: whether the server has its login role; None: unknown.
        secret_ids: by age, the newest first.
        problems: what could not be read.
    """

    consumer: Consumer
    exists: bool | None
    secret_ids: tuple[SecretIdInfo, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class DestroyedSecretId:
    """What became of one secret id; ``absent``: the server had none with this accessor."""

    accessor: str
    result: Literal["destroyed", "absent", "failed"]
    problem: Problem | None = None
    exit_code: ExitCode = ExitCode.OK


def find_consumer(manifest: Manifest, name: str) -> Consumer:
    """Return the manifest's consumer of this name.

    Raises:
        UsageError: it has none.
    """
    method, _, own = name.rpartition("/")
    matches = [
        one
        for one in manifest.consumers
        if one.name == own and (not method or one.method == method)
    ]
    if len(matches) > 1:
        raise UsageError(
            f"{len(matches)} consumers are called {name}",
            why="each belongs to another login method",
            fix=name_one_of([f"{one.method}/{one.name}" for one in matches]),
            code="ambiguous-consumer",
        )
    found = next(iter(matches), None)
    if found is None:
        names = sorted({one.name for one in manifest.consumers})
        raise UsageError(
            f"the manifest has no consumer {name}",
            why=f"its consumers: {', '.join(names)}" if names else "it declares no consumers",
            fix=name_one_of(names) if names else "add one to a role, below consumers",
            code="unknown-consumer",
        )
    return found


def issue(
    gateway: Gateway, manifest: Manifest, consumer: Consumer, wanted: IssueRequest
) -> IssuedSecretId:
    """Issue a wrapped secret id of a login role that this manifest made.

    Raises:
        UsageError: the server has no such login role.
        RefusedError: another manifest or person made it.
    """
    api = checked_api(gateway, manifest, consumer)
    role_id = api.role_id()
    try:
        made = api.issue_wrapped(wanted.wrap_ttl, wanted.num_uses, wanted.cidrs)
    except VaultError as error:
        if not error.says("subset relationship"):  # answered as a 500 (measured)
            raise
        live = gateway.sys.access.object(_path(consumer)) or {}
        allowed = ", ".join(live.get("secret_id_bound_cidrs") or ())
        raise UsageError(
            f"--cidr is not within the addresses of {consumer.name}",
            why="the login role has narrower cidrs",
            fix=f"give a range within {allowed}" if allowed else "leave out --cidr",
            code="cidr-outside",
        ) from error
    return IssuedSecretId(role_id, made)


def list_consumers(gateway: Gateway, manifest: Manifest) -> tuple[ConsumerState, ...]:
    """Return the manifest's consumers by name, with the secret ids that the server has."""
    ordered = sorted(manifest.consumers, key=lambda one: (one.name, one.method))
    return tuple(_state(gateway, one) for one in ordered)


def _state(gateway: Gateway, consumer: Consumer) -> ConsumerState:
    try:
        if gateway.sys.access.object(_path(consumer)) is None:
            return ConsumerState(consumer, exists=False)
    except NotFoundError:
        return ConsumerState(consumer, exists=False)
    except SkyflowctlError as error:
        if not isinstance(error, VaultError) or not error.status:
            raise
        return ConsumerState(consumer, None, (), error.problems)
    state = ConsumerState(consumer, exists=True)
    if consumer.type != "approle":
        return state
    try:
        return replace(state, secret_ids=_secret_ids(_api(gateway, consumer)))
    except VaultError as error:
        if not error.status:
            raise
        return replace(state, problems=error.problems)


def _secret_ids(api: AppRoleApi) -> tuple[SecretIdInfo, ...]:
    found = [one for one in map(api.look_up, api.accessors()) if one is not None]
    return tuple(sorted(found, key=lambda one: one.created or _LONG_AGO, reverse=True))


def superseded(gateway: Gateway, consumer: Consumer) -> tuple[SecretIdInfo, ...]:
    """Return the secret ids that are older than the newest one, which a login has used.

    Raises:
        RefusedError: the server does not show a use of the newest one.
    """
    with _naming_consumer(consumer):
        found = _secret_ids(_api(gateway, consumer))
    if len(found) < 2:
        return ()
    newest, older = found[0], found[1:]
    if newest.used:
        return older
    unlimited = newest.used is None
    why = (
        "the server shows no use of a secret id without a limit of uses"
        if unlimited
        else "no login has used it yet"
    )
    accessors = " ".join(f"--accessor {one.accessor}" for one in older)
    rest = "check in the audit log that the application logs in with it"
    again = f"then: skyflowctl consumer revoke {consumer.name} {accessors}"
    wait = "restart the application with it, then run the same command again"
    raise RefusedError(
        f"the use of {consumer.name}'s newest secret id is not shown; nothing was destroyed",
        why=f"{why} (accessor {newest.accessor})",
        fix=f"{rest}, {again}" if unlimited else wait,
        code="use-not-shown",
    )


def live_accessors(gateway: Gateway, consumer: Consumer) -> tuple[str, ...]:
    """Return the accessors of every secret id of a consumer."""
    with _naming_consumer(consumer):
        return _api(gateway, consumer).accessors()


def destroy_secret_ids(
    gateway: Gateway, manifest: Manifest, consumer: Consumer, accessors: Sequence[str]
) -> tuple[DestroyedSecretId, ...]:
    """Destroy secret ids one by one; a failed one does not stop the others.

    Raises:
        RefusedError: another manifest or person made the login role.
    """
    api = checked_api(gateway, manifest, consumer)
    return tuple(_destroyed(api, accessor) for accessor in accessors)


def _destroyed(api: AppRoleApi, accessor: str) -> DestroyedSecretId:
    try:
        existed = api.destroy(accessor)
    except VaultError as error:
        code = ExitCode(error.exit_code)
        return DestroyedSecretId(accessor, "failed", error.problems[0], code)
    return DestroyedSecretId(accessor, "destroyed" if existed else "absent")


def _path(consumer: Consumer) -> str:
    return login_role_path(consumer.method, consumer.name, consumer.type)


def _api(gateway: Gateway, consumer: Consumer) -> AppRoleApi:
    """Return the calls for a consumer's secret ids.

    Raises:
        RefusedError: its login is of a type that has none.
    """
    if consumer.type != "approle":
        raise RefusedError(
            f"{consumer.name} has no secret ids",
            why=f"it logs in with {_LOGS_IN_WITH[consumer.type]}, which this server does not issue",
            fix="to end its access, remove it from the manifest and run: skyflowctl apply --prune;"
            f" to prove its login: skyflowctl consumer check {consumer.name}",
            code="no-secret-ids",
        )
    return AppRoleApi(gateway.transport, consumer.method, consumer.name)


def checked_api(gateway: Gateway, manifest: Manifest, consumer: Consumer) -> AppRoleApi:
    """Return the calls for a consumer's login role, after a look at who made it.

    Raises:
        UsageError: the server has no such login role.
        RefusedError: another manifest or person made it, or it has no secret ids.
    """
    api = _api(gateway, consumer)
    checked_role(gateway, manifest, consumer)
    return api


def checked_role(gateway: Gateway, manifest: Manifest, consumer: Consumer) -> Mapping[str, Any]:
    """Return a consumer's login role, after a look at who made it.

    Raises:
        UsageError: the server has no such login role.
        RefusedError: another manifest or person made it.
    """
    with _naming_consumer(consumer):
        found = gateway.sys.access.object(_path(consumer))
    if found is None:
        raise _missing(consumer)
    owner = owner_of(manifest.id, found)
    if owner is not None:
        path = _path(consumer)
        raise RefusedError(
            f"this manifest did not make {path}",
            why=f"the manifest {owner} made it" if owner else "no manifest made it",
            fix=f"take it over with: skyflowctl apply --adopt={path}",
            code="not-ours",
        )
    return found


@contextmanager
def _naming_consumer(consumer: Consumer) -> Iterator[None]:
    """Turn the server's answer for a missing login role into a usage error."""
    try:
        yield
    except NotFoundError as error:
        raise _missing(consumer) from error
    except VaultError as error:
        if error.says("does not exist"):
            raise _missing(consumer) from error
        raise


def _missing(consumer: Consumer) -> UsageError:
    return UsageError(
        f"the server has no login role {consumer.name} at auth/{consumer.method}",
        why="the manifest declares it, but it was not applied to this server, or was deleted",
        fix="create it with: skyflowctl apply",
        code="consumer-missing",
    )
