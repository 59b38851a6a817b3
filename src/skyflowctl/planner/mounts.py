"""Plans the changes of the server: audited headers and the mounts themselves."""

from collections.abc import Iterable, Mapping

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import Manifest, Mount
from skyflowctl.planner import fields, messages, moves
from skyflowctl.planner.adoption import mount_owner
from skyflowctl.planner.plan import Action, ActionType, Change, ObjectKind
from skyflowctl.vault.live import LiveMount


def header_actions(audited: Mapping[str, bool]) -> list[Action]:
    """Return the actions that make the audit log show the two request headers unhashed."""
    actions = []
    for name in fields.AUDITED_HEADERS:
        hashed = audited.get(name.lower())
        if hashed is False:
            continue
        kind = ActionType.CREATE if hashed is None else ActionType.UPDATE
        path = f"sys/config/auditing/request-headers/{name}"
        changes = (Change("hmac", hashed, False),)
        actions.append(Action(kind, ObjectKind.AUDITED_HEADER, "", path, changes, {"hmac": False}))
    return actions


def blocked(
    manifest: Manifest, mount: Mount, live: Mapping[str, LiveMount], adopt_from: frozenset[str]
) -> Problem | None:
    """Return why a mount's path must not be changed, or None."""
    present = live.get(mount.path)
    if former := moves.also_at_former_path(manifest, mount, live):
        return messages.moved_both_live(mount, former)
    if present is None or present.path != mount.path:
        other = _neighbour(mount.path, live)
        if present is None or other:
            return messages.path_in_use(mount, other) if other else None
    if present.type != manifest.plugin.name:
        return messages.type_differs(mount, manifest.plugin.name, present)
    owner = mount_owner(manifest, present)
    return messages.owned_by_other(mount, owner) if owner and owner not in adopt_from else None


def mount_actions(
    manifest: Manifest, mount: Mount, live: LiveMount | None, *, other_files: bool = False
) -> list[Action]:
    """Return the actions that make the mount itself match the manifest: one, or two with an
    upgrade, which is a separate action because it restarts the mount's engine.

    The manifest's files are recorded when the mount is created or adopted and, with
    ``other_files``, instead of the recorded ones. Otherwise a run with further files is
    recorded, because a prune without them would delete what they declare: see
    :mod:`skyflowctl.planner.prune`.
    """
    wanted = fields.wanted_mount(manifest, mount)
    if live is None:
        return [_create(manifest, mount, fields.all_new(wanted))]
    actions = [_move(mount, live.path)] if live.path != mount.path else []
    changes = fields.differences(fields.live_mount(live), wanted)
    adopts = mount_owner(manifest, live) is not None
    recorded = live.options.get("files", "")
    replaced = manifest.file_set if adopts or other_files else _joined(recorded, manifest.file_set)
    changes += fields.differences({"options.files": recorded}, {"options.files": replaced})
    if adopts:
        changes += (Change("options.adopted", live.options.get("adopted"), "true"),)
    if changes:
        path = f"sys/mounts/{mount.path}/tune"
        body = fields.as_body(changes)
        actions.append(Action(ActionType.UPDATE, ObjectKind.MOUNT, mount.name, path, changes, body))
    return actions + _upgrade(mount, manifest.plugin.version, live)


def _joined(recorded: str, now: str) -> str:
    """Return the files of this run if they include all of a record, else the record."""
    known = set(filter(None, recorded.split(",")))
    return now if known and known <= set(now.split(",")) else recorded


def _create(manifest: Manifest, mount: Mount, changes: tuple[Change, ...]) -> Action:
    changes = (Change("type", None, manifest.plugin.name), *changes)
    if manifest.plugin.version:
        changes += (Change("plugin_version", None, manifest.plugin.version),)
    if manifest.file_set:
        changes += (Change("options.files", None, manifest.file_set),)
    path = f"sys/mounts/{mount.path}"
    body = fields.as_body(changes)
    return Action(ActionType.CREATE, ObjectKind.MOUNT, mount.name, path, changes, body)


def _move(mount: Mount, former: str) -> Action:
    changes = (Change("path", former, mount.path),)
    body = {"from": former, "to": mount.path}
    return Action(ActionType.MOVE, ObjectKind.MOUNT, mount.name, "sys/remount", changes, body)


def _upgrade(mount: Mount, wanted: str | None, live: LiveMount) -> list[Action]:
    """Return the upgrade, if any. A mount that was tuned but not reloaded (by a killed run) still
    needs it."""
    if not wanted:
        return []
    changes = []
    if live.plugin_version != wanted:
        changes.append(Change("plugin_version", live.plugin_version or None, wanted))
    elif live.running_plugin_version not in ("", wanted):
        changes.append(Change("running_plugin_version", live.running_plugin_version, wanted))
    path = f"sys/mounts/{mount.path}/tune"
    body = {"plugin_version": wanted}
    kind = ActionType.PLUGIN_UPGRADE
    return (
        [Action(kind, ObjectKind.MOUNT, mount.name, path, tuple(changes), body)] if changes else []
    )


def _neighbour(path: str, live: Iterable[str]) -> str | None:
    for other in sorted(live):
        if path.startswith(f"{other}/") or other.startswith(f"{path}/"):
            return other
    return None
