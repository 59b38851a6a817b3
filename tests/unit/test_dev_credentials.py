"""The dev stack's stand-ins: what a look may change, what an apply may, and sealed servers."""

from __future__ import annotations

import json
import re

import pytest
from support import planning as p
from support.fake_server import FakeReplacer, FakeServer

from skyflowctl.cli.wiring_dev import dev_layout
from skyflowctl.devstack import accounts
from skyflowctl.devstack.layout import DevLayout
from skyflowctl.devstack.state import DevState, Part, ProcessRecord, save_state
from skyflowctl.errors import ExitCode
from skyflowctl.operations.apply import apply
from skyflowctl.operations.dev_credentials import DevCredentials
from skyflowctl.operations.plan import plan
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator.client import EmulatorControlError
from skyflowctl.vault.failures import Sealed
from skyflowctl.vault.gateway import Gateway

PORT = 18443
ORDER = accounts.account_id("order")


class FakeControl:
    """The emulator's accounts, by client id: their roles and their keys."""

    def __init__(self) -> None:
        self.roles: dict[str, list[str]] = {}
        self.keys: dict[str, list[str]] = {}

    def put_account(self, client_id, *, name="", role_ids=()):
        self.roles[client_id] = list(role_ids)
        self.keys.setdefault(client_id, [])

    def account(self, client_id):
        if client_id not in self.roles:
            raise EmulatorControlError(404, "no such account")
        return {"keys": self.keys[client_id]}

    def create_key(self, client_id):
        self.keys[client_id].append(f"key-{len(self.keys[client_id])}")
        uri = f"https://127.0.0.1:{PORT}/v1/auth/sa/oauth/token"
        fields = {"clientID": client_id, "keyID": self.keys[client_id][-1], "tokenURI": uri}
        return Secret(json.dumps(fields))


@pytest.fixture
def emulator(monkeypatch):
    control = FakeControl()
    monkeypatch.setattr(accounts, "control", lambda *_: control)
    return control


@pytest.fixture
def layout(tmp_path):
    layout = DevLayout(tmp_path / "dev")
    layout.create()
    save_state(layout, DevState(emulator=Part(ProcessRecord(1, 1.0), PORT)))
    return layout


def manifest(*roles):
    return p.manifest(p.mount(roles=tuple(p.role(name) for name in roles)))


BOTH, ONE = manifest("reader", "writer"), manifest("reader")


class TestRoles:
    def test_a_plan_makes_what_is_missing(self, emulator, layout):
        plan(BOTH, Gateway(FakeServer()), DevCredentials(layout, BOTH))
        assert emulator.roles == {ORDER: ["skyflow-reader", "skyflow-writer"]}
        assert emulator.keys == {ORDER: ["key-0"]}

    def test_a_plan_of_another_manifest_takes_no_role_away(self, emulator, layout):
        DevCredentials(layout, BOTH).prepare_apply()
        source = DevCredentials(layout, ONE)
        plan(ONE, Gateway(FakeServer()), source)
        source.resolve("order")
        assert emulator.roles == {ORDER: ["skyflow-reader", "skyflow-writer"]}
        assert emulator.keys == {ORDER: ["key-0"]}

    def test_an_apply_gives_exactly_the_manifests_roles(self, emulator, layout):
        server, source = FakeServer(), DevCredentials(layout, BOTH)
        gateway = Gateway(server)
        assert apply(plan(BOTH, gateway, source), gateway, source, FakeReplacer()).exit_code == 0
        other = DevCredentials(layout, ONE)
        assert apply(plan(ONE, gateway, other), gateway, other, FakeReplacer()).exit_code == 0
        assert emulator.roles == {ORDER: ["skyflow-reader"]}

    def test_an_emulator_that_fails_is_no_missing_account(self, emulator, layout, monkeypatch):
        def broken(_client_id):
            raise EmulatorControlError(500, "broken")

        monkeypatch.setattr(emulator, "account", broken)
        with pytest.raises(EmulatorControlError):
            accounts.ensure_account(layout, None, "order", [], replace=False)
        assert emulator.roles == {}


def test_an_accounts_id_has_the_form_of_a_real_one():
    """Else the engine warns at every apply."""
    assert re.fullmatch(r"[0-9a-f]{32}", ORDER)
    assert accounts.account_id("pay") != ORDER


@pytest.mark.parametrize(
    "says", [{"initialized": True, "sealed": True}, {"initialized": False, "sealed": True}]
)
def test_a_sealed_server_is_unreachable_and_not_unknown(says):
    """It names no cluster, so nothing tells a dev stack that is known from another one."""
    server = FakeServer()
    server.server_health = says
    with pytest.raises(Sealed) as caught:
        dev_layout(Gateway(server))
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    (problem,) = caught.value.problems
    assert problem.why
    assert "dev up" in problem.fix
