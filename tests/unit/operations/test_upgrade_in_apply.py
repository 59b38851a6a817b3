"""The upgrades of an apply: the proofs before its first write, and the way back."""

from __future__ import annotations

import dataclasses

import pytest
from support.upgrade_server import BROKEN, DEAD, NAME, NEW, OLD, UpgradeServer, mount_entry

from skyflowctl.errors import ExitCode, PartlyDoneError, RefusedError, UnhealthyError
from skyflowctl.operations.upgrade import nodes as upgrade_nodes
from skyflowctl.operations.upgrade.in_apply import ApplyUpgrader
from skyflowctl.planner.plan import Action, ActionType, Change, ObjectKind
from skyflowctl.vault.errors import BadRequestError, BusyError, ForbiddenError
from skyflowctl.vault.parked import PendingError, pending
from skyflowctl.vault.pending_store import StoredRequest

ORDER = "skyflow/order"
NODES = ("n0", "n1", "n2")


def server(**more: object) -> UpgradeServer:
    return UpgradeServer({ORDER: mount_entry()}, NODES, **more)


def upgrader(there: UpgradeServer) -> ApplyUpgrader:
    return ApplyUpgrader(NAME, there.connect, lambda *_: None)


def upgrade_to(version: str, path: str = ORDER) -> Action:
    changes = (Change("plugin_version", OLD, version),)
    return Action(
        ActionType.PLUGIN_UPGRADE,
        ObjectKind.MOUNT,
        path.rpartition("/")[2],
        f"sys/mounts/{path}/tune",
        changes,
        {"plugin_version": version},
    )


def writes(there: UpgradeServer) -> list[str]:
    return [path for _, _, path in there.log if "tune" in path or "reload" in path]


def test_each_node_reloads_for_itself_the_leader_last() -> None:
    there = server()
    upgrader(there).upgrade(upgrade_to(NEW), there.gateway())
    assert there.versions(ORDER) == {NEW}
    reloads = [name for name, _, path in there.log if path == "sys/plugins/reload/backend"]
    assert reloads == ["n1", "n2", "n0"]


def test_a_version_that_does_not_mint_goes_back_and_is_partly_done() -> None:
    there = server()
    with pytest.raises(PartlyDoneError) as failed:
        upgrader(there).upgrade(upgrade_to(BROKEN), there.gateway())
    assert [one.code for one in failed.value.problems] == ["upgrade-lost-roles"]
    assert (there.versions(ORDER), there.serves(ORDER)) == ({OLD}, True)


def test_a_mount_that_cannot_go_back_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade_nodes, "LAG_SECONDS", 0.1)
    there = server(spoiled={"n2": {NEW, OLD}})
    with pytest.raises(UnhealthyError):
        upgrader(there).upgrade(upgrade_to(NEW), there.gateway())


def parked() -> PendingError:
    texts = {one.name: "" for one in dataclasses.fields(StoredRequest)} | {"accessor": "acc"}
    return pending(StoredRequest(**texts), "keyring")


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (parked(), ExitCode.PENDING),
        (BusyError("the server is busy", status=429), ExitCode.UNREACHABLE),
        (BadRequestError("invalid", status=400), ExitCode.INVALID),
        (ForbiddenError("permission denied", status=403), ExitCode.NOT_PERMITTED),
    ],
)
def test_a_first_write_that_is_not_carried_out_keeps_its_own_error(error, exit_code) -> None:
    there = server(tune_error=error)
    with pytest.raises(type(error)) as failed:
        upgrader(there).upgrade(upgrade_to(NEW), there.gateway())
    assert failed.value is error
    assert failed.value.exit_code == exit_code
    assert len(writes(there)) == 1


@pytest.mark.parametrize(
    ("version", "more", "code"),
    [
        (NEW, {"lacks": {"n1": {NEW}}}, "plugin-file-missing"),
        (NEW, {"lacks": {"n1": {OLD}}}, "no-version-before"),
        (NEW, {"guarded": (f"sys/mounts/{ORDER}/tune",)}, "approval-needed"),
        (DEAD, {}, "plugin-does-not-start"),
    ],
)
def test_what_cannot_go_well_is_refused_before_the_first_write(version, more, code) -> None:
    there = server(**more)
    with pytest.raises(RefusedError) as refused:
        upgrader(there).prove([upgrade_to(version)], there.gateway())
    assert [one.code for one in refused.value.problems] == [code]
    assert writes(there) == []


def test_a_mount_that_is_only_there_after_a_move_is_left_to_its_turn() -> None:
    there = server(lacks={"n1": {NEW}})
    assert upgrader(there).prove([upgrade_to(NEW, "skyflow/moved")], there.gateway()) == ()
