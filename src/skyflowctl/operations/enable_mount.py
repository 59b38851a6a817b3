"""``mount enable``: enables one mount of the manifest, as the first step of its apply does."""

from dataclasses import replace

from skyflowctl.credentials.sources import ManifestSource
from skyflowctl.errors import Problem, RefusedError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.operations.plan import PlanResult, plan
from skyflowctl.operations.preflight import refuse_unpermitted
from skyflowctl.planner.plan import ActionType, ObjectKind, PlanOptions
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveMount


@dataclass(frozen=True, slots=True)
class EnabledMount:
    """What became of a mount.

    Args:
        mount: as the server has it now.
        enabled: whether this run enabled it; else it existed.
        differs: the fields of the mount that an apply would change.
    """

    mount: LiveMount
    enabled: bool
    differs: tuple[str, ...] = ()


def enable_mount(gateway: Gateway, manifest: Manifest, name: str) -> EnabledMount:
    """Enable a mount with its settings and marks, without config and roles.

    No credential is read, so only description and roles tell whether it was moved.

    Raises:
        NotPermittedError: this login may not enable it, or not read it afterwards.
        InvalidInputError: the server could not start the plugin's version.
        RefusedError: its path is in use, or the mount is probably at another path.
        SilentlyIgnoredError: the server does not keep all of its settings.
    """
    bare = replace(manifest, mounts=tuple(map(_without_credential, manifest.mounts)))
    made = plan(bare, gateway, ManifestSource(bare), PlanOptions(only=frozenset({name})))
    actions = [one for one in made.plan.actions if one.kind is ObjectKind.MOUNT]
    (mount,) = made.mounts
    if [one.action for one in actions] == [ActionType.CREATE]:
        refuse_unpermitted(replace(made, plan=replace(made.plan, actions=tuple(actions))), gateway)
        return EnabledMount(gateway.sys.enable_mount(mount.path, actions[0].body), enabled=True)
    there = made.live.mounts.get(mount.path)
    if there is None or there.path != mount.path or name not in made.plan.settings:
        raise RefusedError.of(_reasons(made, mount))
    changes = (change.field for one in actions for change in one.changes)
    return EnabledMount(there, enabled=False, differs=tuple(changes))


def _without_credential(mount: Mount) -> Mount:
    return replace(mount, credentials=None, keeps_credential=False)


def _reasons(made: PlanResult, mount: Mount) -> tuple[Problem, ...]:
    """Return why an apply would not enable this mount."""
    return tuple(one for one in made.refused if one.where == mount.where) or made.skipped
