"""``apply --dry-run`` and ``creds --dry-run``: a full run in a sandbox in this process.

It runs the real planner, executor and engine; only the server and the token service are simulated.
It writes nothing. Its only connection reads a server's live state, if a gateway is given.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from skyflowctl.clock import SystemClock
from skyflowctl.credentials.model import CredentialSource
from skyflowctl.engine.ctx import Ctx
from skyflowctl.errors import ExitCode, Problem, SkyflowctlError, UsageError
from skyflowctl.executor.deletes import carry_out_deletes, without_deletes
from skyflowctl.executor.events import ApplyListener
from skyflowctl.executor.outcome import ApplyOutcome
from skyflowctl.executor.run import execute
from skyflowctl.executor.verify import unverified
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.operations.creds import read_creds
from skyflowctl.operations.dry_run.sandbox import (
    SandboxCredentials,
    open_sandbox,
    sandbox_credentials,
)
from skyflowctl.operations.dry_run.verify import TriedRole
from skyflowctl.operations.health import HealthResult, health
from skyflowctl.operations.mount_refs import declared_mounts
from skyflowctl.operations.plan import PlanResult, plan, with_access
from skyflowctl.operations.replace_credential import DECLARED, RotatingReplacer
from skyflowctl.planner.diff import make_plan
from skyflowctl.planner.plan import Action, Plan, PlanOptions
from skyflowctl.plugin.settings import ArgumentError, parse_arguments
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS
from skyflowctl.text import name_one_of
from skyflowctl.vault.errors import TokenServiceFailedError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import SERVER_FILE, LiveEngine, LiveState
from skyflowctl.vault.responses import Creds

_NOTHING = LiveState({}, {}, {})


@dataclass(frozen=True, slots=True)
class Minted:
    """Whether one role gave a token in the dry run, and until when; never the token."""

    mount: str
    role: str
    expires_at: str = ""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """A plan, and the result of its dry run.

    Args:
        planned: what a real apply would do.
        outcome: its outcome in the sandbox.
        seeded: the dry run began from a server's live state; False: from an empty server.
        throw_away: by mount name, why a throw-away key replaced its credential.
        stand_ins: mounts whose live key was replaced by a throw-away one, because it is not the
            manifest's.
        minted: one entry for every role that was tried.
        unproved: mounts that were not tried, because the plan leaves them out or they stay without
            a credential.
        health: the health of the mounts that were tried.
        left: how many actions a second plan had; not 0 is a fault.
        engine_hosts: token services that the server's catalog entry allows; None: unknown.
        verified: the token service's answer for each role; empty: it was not asked.
        require_verified: a role without an answer of the token service is an error.
    """

    planned: PlanResult
    outcome: ApplyOutcome
    seeded: bool
    throw_away: dict[str, str]
    stand_ins: tuple[str, ...]
    minted: tuple[Minted, ...]
    unproved: tuple[str, ...]
    health: HealthResult
    left: int
    engine_hosts: frozenset[str] | None = None
    verified: tuple[TriedRole, ...] = ()
    require_verified: bool = False

    @property
    def unreadable(self) -> tuple[Problem, ...]:
        """Why mounts were not tried; a throw-away key replaces a credential that was not
        resolved."""
        played = "credential-unresolved"
        return tuple(one for one in self.planned.plan.unreadable if one.code != played)

    @property
    def other_engines(self) -> tuple[str, ...]:
        """The paths on which another engine runs than the one of the dry run."""
        live = self.planned.live.engines
        return tuple(path for path, engine in live.items() if engine.config.api.missing)

    @property
    def unverified(self) -> tuple[Problem, ...]:
        """Why roles give no token or, if verification is required, could not be verified."""
        verified = (one.verified for one in self.verified)
        return unverified(verified, require_all=self.require_verified)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a real apply; 6 if a role gives no token after it.

        Throw-away keys do not change it: see ``throw_away``.
        """
        plan = self.planned.plan
        if self.planned.refused:
            return ExitCode.REFUSED
        if self.outcome.exit_code is not ExitCode.OK:
            return self.outcome.exit_code
        if self.planned.live.all_forbidden and plan.empty:
            return ExitCode.NOT_PERMITTED
        if self.unreadable or plan.skipped or self.left or self.unverified:
            return ExitCode.PARTIAL
        failed = any(one.problem for one in self.minted)
        return ExitCode.UNHEALTHY if failed else self.health.exit_code


@dataclass(frozen=True, slots=True)
class DryCreds:
    """A token of the in-process token service. ``throw_away`` says why a throw-away key replaced
    the credential; empty: the manifest's own was used."""

    creds: Creds
    throw_away: str


def dry_run(
    manifest: Manifest,
    credentials: CredentialSource,
    gateway: Gateway | None = None,
    options: PlanOptions | None = None,
    *,
    parallelism: int = 10,
    on_event: ApplyListener | None = None,
) -> DryRunResult:
    """Plan, apply in the sandbox, mint for every role, check health, plan again.

    Args:
        manifest: the desired state.
        credentials: the source that a real apply would use.
        gateway: the server whose live state is the starting point; only read. None: an empty
            server.
        options: as for :func:`skyflowctl.operations.plan.plan`.
        parallelism: how many actions run at once.
        on_event: called for every step of the apply.

    Raises:
        InvalidInputError: a reference leads to an invalid credential.
        VaultError: the server as a whole cannot be read.
    """
    planned = _planned(manifest, credentials, gateway, options, parallelism)
    manifest = replace(manifest, mounts=planned.mounts)
    sandboxed = sandbox_credentials(manifest, credentials, planned.live)
    hosts = engine_hosts(planned, gateway)
    with open_sandbox(manifest, sandboxed, planned.live, hosts) as stage:
        played = _with_placeholders(planned.plan, sandboxed)
        outcome = _executed(played, stage, sandboxed, parallelism, on_event)
        tried, unproved = _tried(manifest, stage)
        minted = tuple(_mint(stage, mount, role) for mount, role in _roles(tried))
        checked = health(stage, declared_mounts(replace(manifest, mounts=tried)))
        left = _left(planned, stage, sandboxed)
    return DryRunResult(
        planned=planned,
        outcome=outcome,
        seeded=gateway is not None,
        throw_away=dict(sandboxed.unresolved),
        stand_ins=sandboxed.stand_ins,
        minted=minted,
        unproved=unproved,
        health=checked,
        left=left,
        engine_hosts=hosts,
    )


def _executed(
    plan: Plan,
    stage: Gateway,
    sandboxed: SandboxCredentials,
    parallelism: int,
    on_event: ApplyListener | None,
) -> ApplyOutcome:
    execute_part = partial(
        execute,
        gateway=stage,
        credentials=sandboxed,
        replacer=_replacer(),
        parallelism=parallelism,
        on_event=on_event,
    )
    outcome = execute_part(without_deletes(plan))
    return carry_out_deletes(plan, outcome, execute_part, on_event)


def engine_hosts(planned: PlanResult, gateway: Gateway | None) -> frozenset[str] | None:
    """Return the token services that the catalog's engine allows; None: unknown."""
    basic = any(one.config.api.missing for one in planned.live.engines.values())
    if gateway is None or basic:
        return None  # another engine has other arguments
    plugin = planned.manifest.plugin
    there = planned.live.mounts.values()
    running = (one.running_plugin_version for one in there if one.type == plugin.name)
    version = plugin.version or next((one for one in running if one), "")
    try:
        version = version or _newest(gateway, plugin.name)
        entry = gateway.sys.catalog.read(plugin.name, version)
        settings = parse_arguments(entry.args) if entry else None
    except (SkyflowctlError, ArgumentError):
        return None
    if settings is None:
        return None
    return settings.only_hosts or SKYFLOW_HOSTS | settings.allow_hosts


def _newest(gateway: Gateway, name: str) -> str:
    """Return the version that a server chooses if none is named; empty: an unversioned one."""
    versions = [one.version for one in gateway.sys.catalog.list() if one.name == name]
    by_numbers = ([int(part) for part in re.findall("[0-9]+", one)[:3]] for one in versions)
    return max(zip(by_numbers, versions, strict=True), default=([], ""))[1]


def mint_dry(
    manifest: Manifest,
    mount: str,
    role: str,
    ctx: Ctx | None,
    credentials: CredentialSource,
) -> DryCreds:
    """Mint one token for a role of the manifest, entirely in this process.

    Args:
        manifest: declares the mount and the role.
        mount: the mount's name.
        role: the role's name.
        ctx: what a caller would send.
        credentials: the source of the mount's credential.

    Raises:
        UsageError: the manifest has no such mount, it names no credential, or the engine
            refuses the role or the ctx.
        InvalidInputError: the credential is bad.
    """
    wanted = next((one for one in manifest.mounts if one.name == mount), None)
    if wanted is None or wanted.credentials is None:
        raise _cannot_mint(manifest, mount, known=wanted is not None)
    alone = Manifest(manifest.id, manifest.plugin, manifest.path_prefix, (wanted,))
    sandboxed = sandbox_credentials(alone, credentials, _NOTHING)
    if mount in sandboxed.invalid:
        raise sandboxed.invalid[mount]
    with open_sandbox(alone, sandboxed, _NOTHING) as stage:
        made = make_plan(alone, _NOTHING, {mount: sandboxed.manifest[mount].id})
        outcome = execute(made, stage, sandboxed, _replacer())
        if outcome.failures:
            problems = (result.problem for result in outcome.failures)
            raise SkyflowctlError.of(problem for problem in problems if problem)
        creds = read_creds(stage, wanted.path, role, ctx)
    return DryCreds(creds, sandboxed.unresolved.get(mount, ""))


def _planned(
    manifest: Manifest,
    credentials: CredentialSource,
    gateway: Gateway | None,
    options: PlanOptions | None,
    parallelism: int,
) -> PlanResult:
    """Plan from the server's live state, or from an empty sandbox."""
    if gateway is not None:
        return plan(manifest, gateway, credentials, options, parallelism=parallelism)
    no_credentials = SandboxCredentials({}, {}, {}, ())
    with open_sandbox(manifest, no_credentials, _NOTHING) as stage:
        return plan(manifest, stage, credentials, options)


def _replacer() -> RotatingReplacer:
    """Return the replacer for the sandbox, which has no other writers."""

    def dependencies(stage: Gateway) -> Dependencies:
        return Dependencies(
            gateway=stage, connect=None, clock=SystemClock(), run_id="dry-run", sleep=time.sleep
        )

    return RotatingReplacer(dependencies, replace(DECLARED, stale_after=timedelta()))


def _with_placeholders(made: Plan, sandboxed: SandboxCredentials) -> Plan:
    """Use throw-away keys for unresolved credentials; the shown plan keeps its warning about
    them."""
    return replace(
        made, actions=tuple(_with_placeholder(action, sandboxed) for action in made.actions)
    )


def _with_placeholder(action: Action, sandboxed: SandboxCredentials) -> Action:
    if not action.brings_credential or action.credential is not None:
        return action
    body = {name: value for name, value in action.body.items() if name != SERVER_FILE}
    identity = sandboxed.manifest[action.mount].id
    return replace(action, body=body, needs_credential=True, credential=identity)


def _tried(manifest: Manifest, stage: Gateway) -> tuple[tuple[Mount, ...], tuple[str, ...]]:
    """Return the mounts with a credential in the sandbox, and the names of the others."""
    paths = [mount.path for mount in manifest.mounts]
    engines = stage.read_live_state(paths, manifest.plugin.name).engines
    ready = {path for path, engine in engines.items() if engine.config.configured}
    tried = tuple(mount for mount in manifest.mounts if mount.path in ready)
    return tried, tuple(mount.name for mount in manifest.mounts if mount.path not in ready)


def _roles(mounts: Sequence[Mount]) -> list[tuple[Mount, str]]:
    return [(mount, role.name) for mount in mounts for role in mount.roles]


def _mint(stage: Gateway, mount: Mount, role: str) -> Minted:
    probe = next(one.ctx.probe for one in mount.roles if one.name == role)
    try:
        creds = stage.engine(mount.path).creds(role, probe or None)
    except TokenServiceFailedError as error:
        summary = f"the dry run's own token service gave no token: {mount.path}/creds/{role}"
        return Minted(mount.name, role, problem=replace(error.problems[0], summary=summary))
    except VaultError as error:
        return Minted(mount.name, role, problem=error.problems[0])
    return Minted(mount.name, role, creds.expires_at)


def _left(planned: PlanResult, stage: Gateway, sandboxed: SandboxCredentials) -> int:
    """Plan again, and count the actions. Earlier live keys come from the server, because the
    sandbox's history begins with the dry run."""
    manifest = planned.manifest
    live = stage.read_live_state([mount.path for mount in manifest.mounts], manifest.plugin.name)
    live = with_access(live, manifest, stage, planned.options)
    identities = dict(planned.identities)
    for action in _with_placeholders(planned.plan, sandboxed).actions:
        if action.needs_credential:
            identities[action.mount] = action.credential
    live = replace(
        live,
        engines={path: _with_past(one, planned.live, path) for path, one in live.engines.items()},
        problems=planned.live.problems,
    )
    return len(make_plan(manifest, live, identities, planned.options).actions)


def _with_past(engine: LiveEngine, before: LiveState, path: str) -> LiveEngine:
    past = before.engines.get(path)
    return replace(engine, history=past.history if past else None)


def _cannot_mint(manifest: Manifest, mount: str, *, known: bool) -> UsageError:
    if known:
        return UsageError(
            f"{mount} has no credential in the manifest, so nothing can be minted",
            why="a dry run signs with the manifest's key, or with an ephemeral one in its place",
            fix=f"add `credentials:` to {mount}",
            code="no-credential",
        )
    return UsageError(
        f"the manifest has no mount {mount!r}",
        why="without a server only the manifest says which mounts there are",
        fix=name_one_of([one.name for one in manifest.mounts]),
        code="unknown-mount",
    )
