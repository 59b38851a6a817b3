"""``role write``: creates or changes one role by hand, with check-and-set."""

from collections.abc import Mapping
from typing import Any

from skyflowctl.clock import Clock
from skyflowctl.engine.contract import EngineError
from skyflowctl.engine.names import NAME_RULE, is_name
from skyflowctl.engine.paths.roles import role_as_written
from skyflowctl.errors import Problem, RefusedError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.operations.mounts import not_found_is_usage_error
from skyflowctl.planner import fields
from skyflowctl.planner.plan import Action, ActionType, ObjectKind
from skyflowctl.vault import decode
from skyflowctl.vault.errors import SilentlyIgnoredError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveRole

_MARKS = ("managed-by:", fields.adopted_tag(""))
"""How the tags begin by which manifests mark their roles; a manifest may not declare such tags."""
_BASIC = ("role_ids", "description", "tags")
"""What every engine stores; another one drops the rest in silence."""
_ALLOWED: Mapping[str, str] = {
    "role_ids": "--role-id takes letters, digits, . _ and -, the first a letter or digit",
    "description": "--description takes at most 1024 printable characters",
    "tags": "--tag takes 1 to 1024 printable characters, at most 256 times",
    "ctx_pattern": '--ctx-pattern takes a text with at most one * at each end, such as "order:*"',
    "ctx_probe": "--ctx-probe takes a ctx that satisfies the role's own rule",
    "sign_max_ttl": "--sign-max-ttl takes 1s to 24h, such as 15m",
    "reuse_min_ttl": "--reuse-min-ttl takes 0, or 5m to 50m",
}


@dataclass(frozen=True, slots=True)
class RoleChange:
    """A write of one role, as it is shown before it is done.

    Args:
        action: what is sent, and the version that must still be live; None: no field changes.
        version: that version; 0: there is no such role, or the engine counts none.
        warnings: what the manifests will make of it.
    """

    action: Action | None
    version: int
    warnings: tuple[Problem, ...] = ()


def plan_role_write(
    gateway: Gateway, path: str, name: str, patch: Mapping[str, Any], clock: Clock
) -> RoleChange:
    """Return the write of a role; two requests, both reads.

    Args:
        gateway: the server.
        path: of the mount.
        name: of the role.
        patch: the engine's fields that change; the others stay, and so do the manifests' marks.
        clock: for the engine's own check of the fields.

    Raises:
        UsageError: nothing is mounted there, not this engine, a new role lacks what it needs, or
            the role would break a rule of the engine.
        RefusedError: the engine would drop a field.
    """
    with not_found_is_usage_error(path):
        api = gateway.engine(path).checked_config().api
        live = gateway.engine(path).role(name)
    if live is None:
        _check_new(name, patch)
    full = f"{path}/roles/{name}"
    if not api.has("ctx") and not set(patch) <= set(_BASIC):
        raise _not_kept(full)
    before = fields.live_role(live) if live else {}
    asked = _with_marks(patch, live)
    if "ctx_pattern" in asked:
        # What the engine derives from a pattern depends on what was once written, which no
        # read shows. What is sent is what is shown; only a role's first pattern changes it.
        first = bool(asked["ctx_pattern"]) and not before.get("ctx_pattern")
        required = first or before.get("ctx_required", False)
        asked = {"ctx_required": required, **asked}
    whole = _checked({**before, **asked}, clock)
    wanted = {field: whole[field] for field in asked}
    changes = fields.differences(before, wanted) if live else fields.all_new(wanted)
    if live and not changes:
        return RoleChange(None, live.version)
    kind = ActionType.UPDATE if live else ActionType.CREATE
    version = live.version if live else 0
    cas = version if api.has("cas") else None
    action = Action(kind, ObjectKind.ROLE, "", full, changes, wanted, cas)
    warnings = _warnings(full, live)
    if cas is None:
        warnings += (_unguarded(full),)
    return RoleChange(action, version, warnings)


def carry_out_role_write(action: Action, gateway: Gateway) -> LiveRole:
    """Write the role if it still is as it was read, and return it as it is read back.

    Raises:
        ConflictError: another client wrote the role meanwhile; nothing was written.
        SilentlyIgnoredError: the role that was read back has other values.
    """
    path, _, name = action.path.rpartition("/roles/")
    engine = gateway.engine(path)
    engine.write_role(name, action.body, cas=action.cas)
    now = engine.role(name)
    ignored = decode.role_differences(now, action.body) if now else ["the role"]
    if now is None or ignored:
        raise SilentlyIgnoredError.by_engine(action.path, ignored)
    return now


def _check_new(name: str, patch: Mapping[str, Any]) -> None:
    if not is_name(name):
        raise UsageError(
            "ROLE is not a name that a new role can have",
            why=NAME_RULE,
            fix="choose another name",
            code="bad-role-name",
        )
    if "role_ids" not in patch:
        raise UsageError(
            "a new role needs the id of a Skyflow role",
            why=f"the mount has no role {name}, so this would create it",
            fix="add --role-id ID, or check the name",
            code="no-such-role",
        )


def _with_marks(patch: Mapping[str, Any], live: LiveRole | None) -> Mapping[str, Any]:
    """Return the patch with the marks that the role has; they are not the caller's to give."""
    if "tags" not in patch:
        return patch
    given = [*patch["tags"]]
    if any(tag.startswith(_MARKS) for tag in given):
        raise UsageError(
            f"tags that start with {' or '.join(_MARKS)} are reserved",
            why="skyflowctl marks the objects of a manifest with such tags",
            fix="leave them out; a role keeps the marks that it has",
            code="reserved-tag",
        )
    marks = [tag for tag in live.tags if tag.startswith(_MARKS)] if live else []
    return {**patch, "tags": [*given, *marks]}


def _checked(whole: Mapping[str, Any], clock: Clock) -> Mapping[str, Any]:
    try:
        return role_as_written(whole, clock.now())
    except EngineError as error:
        field, _, reason = error.message.partition(": ")
        raise UsageError(
            f"the role would have an invalid {field}",
            why=reason,
            fix=_ALLOWED.get(field, "give a value that the engine takes"),
            code="invalid-role",
        ) from None


def _not_kept(full: str) -> RefusedError:
    return RefusedError(
        f"the engine does not keep these fields: {full}",
        why="an engine with the basic API has no ctx rules, and neither signs nor reuses tokens",
        fix="change only the role id, description and tags, or register skyflowctl's engine",
        code="not-supported-by-engine",
    )


def _unguarded(full: str) -> Problem:
    return Problem(
        "no-check-and-set",
        f"a change of {full} by another client in this moment would be overwritten",
        "an engine with the basic API has no check-and-set",
        "let no other client write the role meanwhile, or register skyflowctl's engine",
    )


def _warnings(full: str, live: LiveRole | None) -> tuple[Problem, ...]:
    manifest = fields.tags_owner("", live.tags) if live else ""
    if manifest:
        return (
            Problem(
                "manifest-differs",
                f"the manifest {manifest!r} manages {full}, and its next apply undoes this",
                "the plan of that manifest shows it as a difference",
                "to keep it, write the same values into the manifest",
            ),
        )
    if live:
        return ()
    path, _, name = full.rpartition("/roles/")
    return (
        Problem(
            "undeclared-role",
            f"{full} gets no manifest's mark",
            "a plan reports it as undeclared until a manifest adopts it",
            f"to keep it, declare it, and apply with --adopt={full}; "
            f"'skyflowctl role delete {path} {name} --allow-destroy={full}' deletes it",
        ),
    )
