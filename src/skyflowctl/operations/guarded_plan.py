"""What is required of the guards on a plan's paths, before its first write.

Neither capabilities nor policies show a guard, so the paths are probed (``vault.guards``). At other
paths than these a probe could itself create an object, and a deletion cannot be probed at all.
"""

import re
from collections.abc import Mapping, Sequence

from skyflowctl.concurrency import Workers
from skyflowctl.errors import NotPermittedError, Problem, RefusedError
from skyflowctl.planner.plan import Action, ActionType, ObjectKind
from skyflowctl.text import listed
from skyflowctl.vault.control_groups import refuse_server_without_them
from skyflowctl.vault.errors import ForbiddenError, GuardedError
from skyflowctl.vault.gateway import Gateway

_PROBED = re.compile(
    r"sys/(mounts|auth)/.+|sys/policies/acl/.+|(?!sys/|auth/|identity/).+/(config|roles/[^/]+)"
)
_CONTROL_GROUP = re.compile(r"^[ \t]*control_group\b", re.MULTILINE)
_REMOUNT = "sys/remount"
_SHOWN = 5


def require_approvals(actions: Sequence[Action], gateway: Gateway, parallelism: int) -> None:
    """Refuse a plan of which any write would run without an approval.

    Raises:
        RefusedError: the server has no control groups, a path is not guarded, or it cannot be
            found out whether it is.
    """
    if not actions:
        return
    refuse_server_without_them(gateway.transport)
    guarded = _guarded(actions, gateway, parallelism)
    unknown = sorted({one.path for one in actions if not _probed_path(one)})
    unknown += sorted(path for path, found in guarded.items() if found is None)
    free = sorted(path for path, found in guarded.items() if found is False)
    problems = []
    if free:
        problems.append(
            Problem(
                "approval-not-required",
                f"these would be written without an approval: {_few(free)}",
                "no control group in the policies of this login guards them",
                "guard them with control_groups in the manifest, or log in as an operator",
            )
        )
    if unknown:
        problems.append(
            Problem(
                "approval-not-provable",
                f"it is not known whether these need an approval: {_few(unknown)}",
                "a probe there could change something, or this login may not send one; a deletion"
                " cannot be probed",
                "apply them without --require-approval, as an administrator",
            )
        )
    if problems:
        raise RefusedError.of(problems)


def refuse_guards_without_effect(actions: Sequence[Action], gateway: Gateway) -> None:
    """Refuse a plan that writes a control group to a server that has none, so nothing would wait.

    Raises:
        RefusedError: the server has no control groups.
    """
    texts = (str(one.body.get("policy", "")) for one in actions if one.kind is ObjectKind.POLICY)
    if any(_CONTROL_GROUP.search(text) for text in texts):
        refuse_server_without_them(gateway.transport)


def refuse_guarded_without_entity(
    actions: Sequence[Action], gateway: Gateway, parallelism: int
) -> None:
    """Refuse a login without an entity if the plan has a guarded path; see ``parked.no_entity``.

    Only such a login costs requests: one for each path that can be probed.

    Raises:
        NotPermittedError: nothing was written.
    """
    login = gateway.sys.own_login() if actions else None
    if login is None or login.entity != "" or login.is_root:
        return
    found = _guarded(actions, gateway, parallelism)
    guarded = sorted(path for path, is_guarded in found.items() if is_guarded)
    if guarded:
        raise NotPermittedError(
            f"this login cannot request approvals: {_few(guarded)}",
            why="a control group guards them; the token has no entity, so no approver can tell "
            "who asks; nothing was written",
            fix="log in with a login method, such as userpass or oidc, and run the same command "
            "again",
            code="no-entity",
        )


def _guarded(
    actions: Sequence[Action], gateway: Gateway, parallelism: int
) -> Mapping[str, bool | None]:
    """Return whether each path that can be probed is guarded; None: this login may not probe it."""

    def probed(path: str) -> bool | None:
        try:
            return None if gateway.transport.refuse_guarded("POST", path) else False
        except GuardedError:
            return True
        except ForbiddenError:
            return None

    paths = sorted({path for one in actions if (path := _probed_path(one))})
    with Workers(parallelism) as pool:
        return dict(zip(paths, pool.map(probed, paths), strict=True))


def _probed_path(action: Action) -> str:
    """Return the path to which an action writes; empty if it cannot be probed."""
    if action.action is ActionType.MOVE:
        return _REMOUNT
    if action.action in {ActionType.DELETE, ActionType.PLUGIN_UPGRADE}:
        return ""
    return action.path if _PROBED.fullmatch(action.path) else ""


def _few(paths: Sequence[str]) -> str:
    more = len(paths) - _SHOWN
    return listed([*paths[:_SHOWN], f"{more} more"] if more > 0 else list(paths))
