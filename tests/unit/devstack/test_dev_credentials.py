"""The dev stack's stand-ins: what a look may change, what an apply may, and sealed servers."""

from __future__ import annotations

import json
import re

import pytest
from support import planning as p
from support.fake_server import FakeReplacer, FakeServer

from skyflowctl.cli.context.dev_stack import dev_layout
from skyflowctl.devstack import accounts
from skyflowctl.devstack.credentials import DevCredentials
from skyflowctl.devstack.emulator import dev_management
from skyflowctl.devstack.emulator_client import EmulatorControlError
from skyflowctl.devstack.layout import DevLayout, ensure_secret
from skyflowctl.devstack.stack import ensure_certificates
from skyflowctl.devstack.state import DevState, Part, ProcessRecord, load_state, save_state
from skyflowctl.errors import ExitCode, UnhealthyError
from skyflowctl.operations.apply import apply
from skyflowctl.operations.plan import plan
from skyflowctl.secret import Secret
from skyflowctl.skyflow.http.connection import HttpAnswer
from skyflowctl.skyflow.management import api as management
from skyflowctl.skyflow.management.client import ManagementClient
from skyflowctl.vault.errors import SealedError
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


def stand_in(layout):
    return json.loads(layout.credential("order").read_text())["keyID"]


def rotated_and_retired(emulator, layout):
    """Apply, rotate to a key that Skyflow made, and delete the stand-in's own there."""
    server, source = FakeServer(), DevCredentials(layout, BOTH)
    gateway = Gateway(server)
    assert apply(plan(BOTH, gateway, source), gateway, source, FakeReplacer()).exit_code == 0
    emulator.keys[ORDER] = ["made-by-skyflow"]
    fields = {"clientID": ORDER, "keyID": "made-by-skyflow", "tokenURI": "https://x"}
    gateway.engine("skyflow/order").write_config({"credentials_json": Secret(json.dumps(fields))})
    return server, gateway


class TestRotatedPast:
    def test_a_stand_in_whose_key_was_retired_is_never_replaced(self, emulator, layout):
        server, gateway = rotated_and_retired(emulator, layout)
        for _ in range(2):
            source = DevCredentials(layout, BOTH)
            found = plan(BOTH, gateway, source)
            assert found.plan.actions == ()
            assert [one.code for one in found.plan.warnings] == ["rotated-past"]
            before = server.writes()
            assert apply(found, gateway, source, FakeReplacer()).exit_code == 0
            assert server.writes() == before
        assert stand_in(layout) == "key-0"
        assert emulator.keys == {ORDER: ["made-by-skyflow"]}

    def test_nor_one_whose_account_has_no_key_left_after_a_cut_off(self, emulator, layout):
        DevCredentials(layout, BOTH).resolve("order")
        emulator.keys[ORDER] = []  # config revoke --delete-keys
        DevCredentials(layout, BOTH).prepare_apply()
        assert DevCredentials(layout, BOTH).resolve("order").id.key_id == "key-0"
        assert emulator.keys == {ORDER: []}

    def test_an_emulator_that_lost_its_accounts_gets_a_new_one(self, emulator, layout):
        DevCredentials(layout, BOTH).resolve("order")
        emulator.roles.clear()
        emulator.keys.clear()
        DevCredentials(layout, BOTH).resolve("order")
        assert stand_in(layout) in emulator.keys[ORDER]

    def test_a_server_that_starts_gets_stand_ins_that_mint(self, emulator, layout):
        rotated_and_retired(emulator, layout)
        accounts.forget_retired(layout, load_state(layout).emulator)
        source, gateway = DevCredentials(layout, BOTH), Gateway(FakeServer())
        assert apply(plan(BOTH, gateway, source), gateway, source, FakeReplacer()).exit_code == 0
        assert stand_in(layout) in emulator.keys[ORDER]

    def test_stand_ins_that_mint_outlive_the_server(self, emulator, layout):
        DevCredentials(layout, BOTH).resolve("order")
        accounts.forget_retired(layout, load_state(layout).emulator)
        assert stand_in(layout) == "key-0"
        assert emulator.keys == {ORDER: ["key-0"]}

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"keyID": 7}'])
    def test_a_damaged_stand_in_is_made_anew(self, emulator, layout, text):
        DevCredentials(layout, BOTH).resolve("order")
        layout.credential("order").write_text(text)
        assert DevCredentials(layout, BOTH).resolve("order").id.key_id == "key-1"

    def test_an_emulator_that_lost_everything_gets_a_new_key(self, emulator, layout):
        DevCredentials(layout, BOTH).resolve("order")
        emulator.roles.clear()
        emulator.keys.clear()
        layout.credential("order").write_text(
            layout.credential("order").read_text().replace("key-0", "lost")
        )
        assert DevCredentials(layout, BOTH).resolve("order").id.key_id == "key-0"

    def test_an_emulator_that_moved_gets_a_new_key(self, emulator, layout):
        DevCredentials(layout, BOTH).resolve("order")
        save_state(layout, DevState(emulator=Part(ProcessRecord(1, 1.0), PORT + 1)))
        assert DevCredentials(layout, BOTH).resolve("order").id.key_id == "key-1"


class TestManagement:
    def test_it_is_the_dev_folders_own_emulator(self, layout, monkeypatch):
        asked = []
        monkeypatch.setattr(ManagementClient, "ask", lambda desk, call: asked.append((desk, call)))
        monkeypatch.setattr(management.asyncio, "run", lambda _: HttpAnswer(200, (), b"{}"))
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
        monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
        ensure_certificates(layout)
        ensure_secret(layout.skyflow_operator_token, "dev-")
        ensure_secret(layout.skyflow_account_id)
        assert dev_management(layout).list_keys(ORDER) == ()
        ((desk, _),) = asked
        assert desk.host == f"127.0.0.1:{PORT}"
        assert desk.operator_token.reveal() == layout.skyflow_operator_token.read_text()
        assert desk.environ == {}
        assert len(desk.context.get_ca_certs()) == 1

    def test_without_a_token_the_stack_does_not_run(self, layout):
        with pytest.raises(UnhealthyError) as caught:
            dev_management(layout)
        assert "dev up" in caught.value.problems[0].fix


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
    with pytest.raises(SealedError) as caught:
        dev_layout(Gateway(server))
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    (problem,) = caught.value.problems
    assert problem.why
    assert "dev up" in problem.fix
