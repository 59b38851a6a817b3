"""Plans a manifest on the server of a command line."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from skyflowctl.cli.context import credential_sources
from skyflowctl.cli.context.plan_options import plan_options
from skyflowctl.cli.options import ReferenceOptions
from skyflowctl.cli.plan_options import PermitOptions
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import UsageError
from skyflowctl.frozen import dataclass

if TYPE_CHECKING:
    from skyflowctl.audit.sources import Sources
    from skyflowctl.credentials.model import CredentialSource
    from skyflowctl.manifest.load import LoadedManifest
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.operations.plan import PlanResult
    from skyflowctl.planner.plan import PlanOptions
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.live import LiveState


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """The part of a command line that a plan depends on.

    Args:
        file: the manifest's files; None: the default.
        mounts: only these mounts; empty: all.
        permits: what the plan may do.
        references: what the manifest's references may do.
        allow_hosts: further token services that credentials may name.
        parallelism: how many requests run at once.
        audit: audit logs, for who is affected; empty: none.
    """

    file: Sequence[str] | None
    mounts: Sequence[str] | None
    permits: PermitOptions
    references: ReferenceOptions
    allow_hosts: Sequence[str] | None
    parallelism: int
    audit: Sequence[str] | None = None

    def options(self, manifest: "Manifest") -> "PlanOptions":
        """Return the plan's options for a manifest.

        Raises:
            UsageError: the manifest has no such mount, or a flag needs ``--prune``.
        """
        return plan_options(manifest, self.mounts, self.permits)


@dataclass(frozen=True, slots=True)
class LivePlan:
    """The plan of a manifest on a server, with its inputs.

    Args:
        request: what was asked for.
        loaded: the manifest.
        gateway: the server.
        source: the credentials.
        result: the plan.
    """

    request: PlanRequest
    loaded: "LoadedManifest"
    gateway: "Gateway"
    source: "CredentialSource"
    result: "PlanResult"


def plan_live(
    request: PlanRequest,
    loaded: "LoadedManifest",
    gateway: "Gateway",
    run: CommandRun,
    live: "LiveState | None" = None,
) -> LivePlan:
    """Plan a manifest on a server; ``live``: its state, if it was read already.

    Raises:
        SkyflowctlError: as for :func:`skyflowctl.operations.plan.plan`.
    """
    from skyflowctl.operations.plan import plan

    manifest = loaded.manifest
    logs = _open_logs(request.audit)
    resolver = credential_sources.reference_resolver(run, request.references, gateway)
    source = credential_sources.credentials_for(
        manifest, gateway, run, request.allow_hosts, resolver
    )
    planned = plan(
        credential_sources.manifest_for(manifest, source, run),
        gateway,
        source,
        request.options(manifest),
        parallelism=request.parallelism,
        live=live,
    )
    return LivePlan(request, loaded, gateway, source, _with_impact(planned, logs, gateway))


def _open_logs(patterns: Sequence[str] | None) -> "Sources | None":
    """Return the logs of ``--audit``, opened before anything is asked of the server.

    Raises:
        UsageError: a pattern matches no file, or is standard input.
    """
    if not patterns:
        return None
    from skyflowctl.audit.sources import open_sources

    if any(one.rpartition("=")[2] == "-" for one in patterns):
        raise UsageError(
            "--audit reads no standard input",
            why="a manifest, a token or an answer may be read from there",
            fix="name the audit device's files, such as 'logs/audit.log*'",
        )
    return open_sources(patterns, digest=False)


def _with_impact(planned: "PlanResult", logs: "Sources | None", gateway: "Gateway") -> "PlanResult":
    """Return a plan with who is affected by it, if it affects anybody or logs were given."""
    from skyflowctl.planner.impact import affected

    found = tuple(affected(planned.plan))
    if logs is None and not found:
        return planned
    from skyflowctl.operations.plan_impact import impact_json

    read = None
    if logs is not None and found:
        from skyflowctl.operations.audit_exercised import role_uses

        read = role_uses(
            logs,
            plugin_name=planned.manifest.plugin.name,
            namespace=gateway.transport.server.namespace.strip("/"),
            mounts={one.path for one in found},
        )
    return replace(planned, impact=impact_json(planned, found, read))
