"""``plan``: read the server, look at the credentials, compare. Writes nothing."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from skyflowctl.errors import InvalidInput, Problem, UsageError
from skyflowctl.executor.ports import CredentialSource
from skyflowctl.manifest.model import Manifest
from skyflowctl.planner.diff import make_plan, mounts_to_ask_history
from skyflowctl.planner.identity import CredentialIdentity
from skyflowctl.planner.notes import audited_headers_unwritable
from skyflowctl.planner.plan import Kind, Plan
from skyflowctl.secretrefs.unresolved import UnresolvedReference
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveState


@dataclass(frozen=True, slots=True)
class PlanResult:
    """A plan and what it was made from; no credential is in it.

    Args:
        manifest: what should be.
        live: what was read.
        plan: the way from one to the other.
        identities: which credential each mount should have; None: not resolved.
    """

    manifest: Manifest
    live: LiveState
    plan: Plan
    identities: Mapping[str, CredentialIdentity | None]


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a look at the credentials showed, by mount name."""

    identities: Mapping[str, CredentialIdentity | None]
    reasons: Mapping[str, str]


def plan(
    manifest: Manifest,
    gateway: Gateway,
    credentials: CredentialSource,
    *,
    parallelism: int = 10,
    replace_credential: frozenset[str] = frozenset(),
) -> PlanResult:
    """Return what an apply would do, in 2 + 2N requests.

    Each mount whose live key is not the manifest's, or that was cut off, costs one more,
    for its history; so do audited headers that are not there yet, for this login's rights.

    Args:
        manifest: what should be.
        gateway: the server.
        credentials: tells each mount's credential.
        parallelism: how many requests run at once.
        replace_credential: mounts whose key is written although the engine has no
            history, or although it was cut off.

    Raises:
        InvalidInput: a reference was resolved to what is no valid credential.
        UsageError: ``replace_credential`` names a mount that the manifest lacks.
        VaultError: the server as a whole cannot be read.
    """
    _check_names(manifest, replace_credential)
    paths = [mount.path for mount in manifest.mounts]
    live = gateway.read_live_state(paths, manifest.plugin.name, parallelism=parallelism)
    looked = _look(manifest, live, credentials)
    asked = mounts_to_ask_history(manifest, live, looked.identities)
    live = gateway.with_history(live, asked)
    made = make_plan(
        manifest,
        live,
        looked.identities,
        replace_credential=replace_credential,
        reasons=looked.reasons,
    )
    return PlanResult(manifest, live, _within_rights(made, gateway), looked.identities)


def _within_rights(made: Plan, gateway: Gateway) -> Plan:
    """Turn audited headers that this login may not write into a warning.

    Everything else works without them, so their lack fails no apply. One request, and
    only where the plan has such an action.
    """
    headers = [action for action in made.actions if action.kind is Kind.AUDITED_HEADER]
    if not headers:
        return made
    rights = gateway.capabilities([action.path for action in headers])
    if all(_may_write(rights[action.path]) for action in headers):
        return made
    return replace(
        made,
        actions=tuple(action for action in made.actions if action not in headers),
        warnings=(*made.warnings, audited_headers_unwritable()),
    )


def _may_write(capabilities: Collection[str]) -> bool:
    """The path is guarded by sudo besides update (measured on OpenBao 2.7.2)."""
    return "root" in capabilities or {"sudo", "update"} <= set(capabilities)


def _check_names(manifest: Manifest, names: frozenset[str]) -> None:
    unknown = sorted(names - {mount.name for mount in manifest.mounts})
    if unknown:
        raise UsageError(
            f"--replace-credential names no mount of the manifest: {', '.join(unknown)}",
            why="a credential is replaced only where the manifest says by which",
            fix=f"name one of {', '.join(mount.name for mount in manifest.mounts)}",
        )


def _look(manifest: Manifest, live: LiveState, credentials: CredentialSource) -> _Looked:
    """Learn each mount's credential. Invalid ones are reported all at once."""
    identities: dict[str, CredentialIdentity | None] = {}
    reasons: dict[str, str] = {}
    problems: list[Problem] = []
    for mount in manifest.mounts:
        if mount.credentials is None:
            continue
        try:
            identities[mount.name] = credentials.identify(mount.name, _live(live, mount.path))
        except UnresolvedReference as error:
            identities[mount.name] = None
            reasons[mount.name] = error.problems[0].why
        except InvalidInput as error:
            problems += error.problems
    if problems:
        raise InvalidInput.of(problems)
    return _Looked(identities, reasons)


def _live(live: LiveState, path: str) -> CredentialIdentity | None:
    there = live.engines.get(path)
    if there is None or not there.config.configured:
        return None
    return CredentialIdentity(there.config.client_id, there.config.key_id)
