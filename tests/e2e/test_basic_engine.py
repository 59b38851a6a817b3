"""The command line beside another engine with the basic API, on a real server: what it can
do is read, and nothing is claimed that it does not do."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.bao import BaoServer, running_bao
from support.basic_engine import basic_env, write_basic_plugin
from support.cli import checked_envelope, invoke
from support.emulator import RunningEmulator
from support.plugin import build_from, copy_source

pytestmark = pytest.mark.real_server
MISSING = ["history", "verify", "cas", "ctx", "token_service"]
ROLES = "{writer: {role_ids: [role-1]}, reader: {role_ids: [role-2]}}"
CTX = '{writer: {role_ids: [role-1], ctx: {pattern: "order:*", probe: "order:probe"}}}'


@pytest.fixture(scope="module")
def server(emulator: RunningEmulator):
    """A server whose plugin ``skyflow`` v1.0.0 is the other engine."""
    with running_bao() as running:
        sha256 = write_basic_plugin(running.plugin_dir, "basic")
        env = basic_env(emulator.host, emulator.ca)
        body = {"sha256": sha256, "command": "basic", "version": "v1.0.0", "env": env}
        status, answer = running.api("PUT", "sys/plugins/catalog/secret/skyflow", body)
        assert status == 204, answer
        yield running


@dataclass
class Place:
    """A manifest with one mount ``order``, and a way to run commands on it."""

    server: BaoServer
    emulator: RunningEmulator
    folder: Path

    def write(self, roles: str = ROLES, **more: Any) -> None:
        text = f"""\
            version: 1
            manifest: shop
            plugin: {{name: skyflow}}
            mounts:
              order:
                description: Orders
                credentials: {{file: order.json}}
                roles: {roles}
            """
        (self.folder / "mounts.yaml").write_text(textwrap.dedent(text))

    def credential(self, name: str = "order.json", client_id: str | None = None) -> dict[str, Any]:
        """Write a credential; a further key of an account when that is named."""
        if client_id is None:
            text = self.emulator.new_account("role-1", "role-2")
        else:
            text = self.emulator.control.create_key(client_id).reveal()
        (self.folder / name).write_text(text)
        return json.loads(text)

    def run(self, *args: str, code: int | None = 0, ends: bool = True) -> Any:
        """Run a command; its envelope."""
        env = {k: v for k, v in self.server.env().items() if k.startswith("BAO_")}
        env |= {"SSL_CERT_FILE": str(self.emulator.ca), "HOME": str(self.folder)}
        env |= {"XDG_STATE_HOME": str(self.folder / "state")}
        more = ["-f", str(self.folder / "mounts.yaml"), "-o", "json"] if ends else []
        done = invoke(*args, *more, env=env)
        assert code is None or done.exit_code == code, (done.exit_code, done.output)
        return checked_envelope(done.stdout) if ends else done

    def data(self, *args: str, code: int = 0) -> Any:
        return self.run(*args, code=code)["data"]

    def apply(self, *args: str, code: int = 0) -> Any:
        return self.run("apply", "-y", "--allow-host", self.emulator.host, *args, code=code)

    def plan(self, *args: str, code: int = 0) -> Any:
        return self.run("plan", "--allow-host", self.emulator.host, *args, code=code)


@pytest.fixture
def place(server: BaoServer, emulator: RunningEmulator, tmp_path: Path):
    """An applied manifest; the mount is gone afterwards."""
    made = Place(server, emulator, tmp_path)
    made.write()
    made.credential()
    yield made
    server.api("DELETE", "sys/mounts/skyflow/order")


def codes(envelope: Any) -> list[str]:
    return [one["code"] for one in (*envelope["errors"], *envelope["data"].get("warnings", ()))]


def test_apply_and_an_empty_second_plan(place: Place):
    done = place.apply()
    assert {one["result"] for one in done["data"]["actions"]} == {"done"}
    second = place.plan("--detailed-exitcode")
    assert second["data"]["actions"] == []
    assert "live-key-unknown" in codes(second)
    assert "replacement-withheld" not in codes(second)


def test_status_says_what_the_engine_lacks(place: Place):
    place.apply()
    (one,) = place.data("status")["mounts"]
    assert one["engine"] == {
        "name": "skyflow",
        "version": "v1.0.0",
        "api": "basic",
        "missing": MISSING,
        "catalog": "ok",
    }
    assert one["health"] == "unproven"


def test_health_is_unproven_and_mint_proves_it(place: Place):
    place.apply()
    place.emulator.control.reset_faults()
    unproven = place.run("health", code=6)
    assert unproven["data"]["mounts"][0]["state"] == "unproven"
    assert "--mint" in unproven["errors"][0]["fix"]
    role = {"role_ids": "role-1"}  # a name that only the other engine takes
    assert place.server.api("POST", "skyflow/order/roles/Old.Reader", role)[0] == 204
    assert place.data("health", "--mint")["mounts"][0]["state"] == "ok"


def test_a_key_that_was_deleted_at_skyflow_is_never_ok(place: Place):
    key = json.loads((place.folder / "order.json").read_text())
    place.apply()
    place.emulator.control.delete_key(key["clientID"], key["keyID"])
    assert place.data("health", code=6)["mounts"][0]["state"] == "unproven"
    refused = place.run("health", "--mint", code=6)
    assert refused["data"]["mounts"][0]["state"] == "refused"
    assert refused["data"]["mounts"][0]["detail"].startswith("role ")
    assert place.data("status")["mounts"][0]["health"] == "unproven"


def test_role_write_sends_only_what_the_engine_keeps(place: Place):
    place.apply()
    words = ("role", "write", "order", "writer")
    done = place.data(*words, "--role-id", "role-2", "-y")
    assert done["result"] == "updated"
    assert [one["code"] for one in done["warnings"]] == ["manifest-differs", "no-check-and-set"]
    assert place.data("role", "show", "order", "writer")["role"]["role_ids"] == ["role-2"]
    refused = place.run(*words, "--ctx-optional", "-y", code=5)
    assert codes(refused) == ["not-supported-by-engine"]


def test_ctx_rules_are_refused_at_plan_time_with_the_reason(place: Place):
    place.apply()
    place.write(CTX)
    planned = place.plan()
    (warning,) = [one for one in planned["data"]["warnings"] if one["code"] == "ctx-not-enforced"]
    assert "writer" in warning["summary"]
    assert "ignore the rule" in warning["why"]
    refused = place.apply(code=5)
    assert refused["errors"][0]["code"] == "ctx-not-enforced"


def test_ctx_rules_on_a_mount_that_is_not_there_yet_fail_when_read_back(place: Place):
    place.write(CTX)
    done = place.apply(code=3)
    failed = [one for one in done["data"]["actions"] if one["result"] == "failed"]
    assert [one["kind"] for one in failed] == ["role"]
    assert "ctx_pattern" in done["errors"][0]["summary"]
    assert place.apply(code=5)["errors"][0]["code"] == "ctx-not-enforced"


def test_creds_takes_ttl_expiry_and_key_from_the_token(place: Place):
    key = json.loads((place.folder / "order.json").read_text())
    place.apply()
    token = place.data("creds", "order", "writer")
    assert token["key_id"] == key["keyID"]
    assert 3500 < token["ttl"] <= 3600
    assert token["expires_at"].endswith("Z")


def test_config_show_and_what_it_lacks(place: Place):
    place.apply()
    assert place.data("config", "show", "order")["description"] == "Orders"
    assert place.run("config", "history", "order", code=64)["errors"][0]["code"] == "no-history"
    assert place.run("config", "verify", "order", code=64)["errors"][0]["code"] == "no-verify"


def rotate(place: Place, *args: str, code: int = 0) -> Any:
    return place.run("rotate", "order", "-y", "--allow-host", place.emulator.host, *args, code=code)


def test_rotate_holds_previous_against_what_is_live_and_names_it(place: Place):
    old = json.loads((place.folder / "order.json").read_text())
    place.apply()
    new = place.credential("new.json", old["clientID"])
    other = place.credential("other.json", old["clientID"])
    files = ("--credentials", str(place.folder / "new.json"), "--previous")
    version = place.server.api("GET", "skyflow/order/config")[1]["data"]["version"]
    wrong = rotate(place, *files, str(place.folder / "other.json"), code=5)
    # Nothing was written: not by the look for a control group either.
    assert place.server.api("GET", "skyflow/order/config")[1]["data"]["version"] == version
    assert wrong["errors"][0]["code"] == "wrong-previous"
    assert old["keyID"] in wrong["errors"][0]["why"]
    assert other["keyID"] in wrong["errors"][0]["why"]
    assert place.data("creds", "order", "writer")["key_id"] == old["keyID"]

    done = rotate(place, *files, str(place.folder / "order.json"))
    (one,) = done["data"]["mounts"]
    assert (one["result"], one["from"], one["to"]) == ("rotated", old["keyID"], new["keyID"])
    assert place.data("creds", "order", "writer")["key_id"] == new["keyID"]


def test_the_way_back_that_is_printed_works_as_it_stands(place: Place):
    old = json.loads((place.folder / "order.json").read_text())
    place.apply()
    place.credential("new.json", old["clientID"])
    before, after = str(place.folder / "order.json"), str(place.folder / "new.json")
    env = {k: v for k, v in place.server.env().items() if k.startswith("BAO_")}
    env |= {"SSL_CERT_FILE": str(place.emulator.ca), "HOME": str(place.folder)}
    env |= {"SKYFLOWCTL_ALLOW_HOST": place.emulator.host}
    words = ["rotate", "skyflow/order", "-y", "--allow-host", place.emulator.host]
    done = invoke(*words, "--credentials", after, "--previous", before, env=env)
    assert done.exit_code == 0, done.output
    assert "--retire" not in done.stdout
    assert "--rollback" not in done.stdout
    (back,) = [line.split(None, 1)[1] for line in done.stdout.splitlines() if " back " in line]
    again = invoke(*shlex.split(back)[1:], "-y", env=env)
    assert again.exit_code == 0, again.output
    assert place.data("creds", "order", "writer")["key_id"] == old["keyID"]


def test_the_way_back_to_a_revoked_key_that_was_allowed_works_as_it_stands(place: Place):
    old = json.loads((place.folder / "order.json").read_text())
    place.apply()
    place.credential("new.json", old["clientID"])
    before, after = str(place.folder / "order.json"), str(place.folder / "new.json")
    revoke(place)
    rotate(place, "--credentials", before, f"--allow-revoked-key={old['keyID']}")
    done = rotate(place, "--credentials", after, "--previous", before)
    (one,) = done["data"]["mounts"]
    place.run(*shlex.split(one["back"])[1:], "-y")
    assert place.data("creds", "order", "writer")["key_id"] == old["keyID"]


def test_what_this_engine_has_no_way_to_do_is_refused_by_name(place: Place):
    place.apply()
    assert rotate(place, "--rollback", "order", code=5)["errors"][0]["code"] == "no-history"


def revoke(place: Place, *args: str, code: int = 0) -> Any:
    return place.data("config", "revoke", "order", "--reason", "INC-1042", "-y", *args, code=code)


def test_revoke_proves_an_empty_config_and_refused_creds_and_leaves_a_mark(place: Place):
    key = json.loads((place.folder / "order.json").read_text())
    place.apply()
    started = time.monotonic()
    told = revoke(place)
    assert time.monotonic() - started < 10  # it asks no path for long that is not there
    assert told["cut_off"]
    assert [one["key_id"] for one in told["keys"]] == [key["keyID"]]
    (node,) = told["nodes"]
    assert {role["role"]: role["ok"] for role in node["roles"]} == {"writer": True, "reader": True}
    options = place.server.api("GET", "sys/mounts/skyflow/order")[1]["data"]["options"]
    assert options["revoked_reason"] == "INC-1042"
    assert options["revoked_key_id"] == key["keyID"]
    assert options["revoked_run"]
    assert options["revoked_at"].endswith("Z")


def test_a_cut_off_is_not_undone_by_the_next_apply(place: Place):
    place.apply()
    revoke(place)
    planned = place.plan()
    (drift,) = [one for one in planned["data"]["drift"] if one["kind"] == "revoked"]
    assert (drift["path"], drift["reason"]) == ("skyflow/order", "INC-1042")
    assert drift["since"]
    assert not [one for one in planned["data"]["actions"] if one["kind"] == "config"]
    place.plan("--detailed-exitcode", code=2)
    place.apply(code=5)
    assert place.server.api("GET", "skyflow/order/config")[0] == 404
    assert place.server.api("GET", "skyflow/order/creds/writer")[0] == 400


def test_revoke_run_again_tells_the_same_key_reason_and_time(place: Place):
    key = json.loads((place.folder / "order.json").read_text())
    place.apply()
    first = revoke(place)
    again = place.data("config", "revoke", "order", "--reason", "other", "-y")
    assert again["done_before"]
    assert again["cut_off_at"] == first["cut_off_at"]
    assert [one["key_id"] for one in again["keys"]] == [key["keyID"]]
    options = place.server.api("GET", "sys/mounts/skyflow/order")[1]["data"]["options"]
    assert options["revoked_reason"] == "INC-1042"


def test_a_dry_run_says_that_another_engine_runs_there(place: Place):
    place.apply()
    done = place.run("apply", "--dry-run", "--allow-host", place.emulator.host)
    assert done["data"]["dry_run"]["other_engines"] == ["skyflow/order"]
    assert "another-engine" in codes(done)


def test_posture_never_says_ok_of_a_credential_that_the_engine_does_not_tell(place: Place):
    place.apply()
    found = place.run("audit", "posture", code=None)["data"]["findings"]
    told = [one for one in found if one["check"] == "credential-age"]
    assert [one["unchecked"] for one in told] == [True]
    assert "skyflow/order" in json.dumps(told[0])
    assert "--mint" in told[0]["fix"]


def test_apply_says_a_role_that_does_not_mint_here_too(place: Place):
    place.write("{writer: {role_ids: [role-1]}, broken: {role_ids: [never-granted]}}")
    done = place.apply(code=3)
    assert {one["role"]: one["result"] for one in done["data"]["verified"]} == {
        "writer": "ok",
        "broken": "refused",
    }


def test_the_mark_of_a_cut_off_holds_after_the_mount_is_taken_over(
    place: Place, emulator: RunningEmulator
):
    place.apply()
    revoke(place)
    server = place.server
    ours = build_from(copy_source(server.folder / "copy"), server.plugin_dir, "ours")
    entry = "sys/plugins/catalog/secret/skyflow"
    before = server.api("GET", f"{entry}?version=v1.0.0")[1]["data"]["sha256"]
    more = {"args": ["--allow-host", emulator.host], "env": [f"SSL_CERT_FILE={emulator.ca}"]}
    body = {"sha256": ours, "command": "ours", "version": "v1.0.0", **more}
    back = {"sha256": before, "command": "basic", "version": "v1.0.0"}
    back["env"] = basic_env(emulator.host, emulator.ca)
    try:
        assert server.api("PUT", entry, body)[0] == 204
        server.api("PUT", "sys/plugins/reload/backend", {"plugin": "skyflow"})
        (drift,) = place.plan()["data"]["drift"]
        assert (drift["kind"], drift["reason"]) == ("revoked", "INC-1042")
        place.apply(code=5)
        assert server.api("GET", "skyflow/order/creds/writer")[0] == 400
    finally:
        assert server.api("PUT", entry, back)[0] == 204
        server.api("PUT", "sys/plugins/reload/backend", {"plugin": "skyflow"})


def revocation_marks(place: Place) -> list[str]:
    options = place.server.api("GET", "sys/mounts/skyflow/order")[1]["data"]["options"]
    return [name for name in options if name.startswith("revoked_")]


def test_config_write_makes_a_revoked_key_live_again_once_the_flag_names_it(place: Place):
    place.apply()
    revoke(place)
    file = str(place.folder / "order.json")
    write = ("config", "write", "order", "--credentials", file)
    write += ("--allow-host", place.emulator.host)
    (problem,) = place.run(*write, code=5)["errors"]
    (flag,) = re.findall(r"--allow-revoked-key=\S+", problem["fix"])
    assert place.data(*write, flag)["changed"] == ["credential"]
    key_id = json.loads(Path(file).read_text())["keyID"]
    assert place.data("creds", "order", "writer")["key_id"] == key_id
    assert revocation_marks(place) == []


def test_only_a_new_key_ends_a_cut_off_and_the_mark_goes_with_it(place: Place):
    old = json.loads((place.folder / "order.json").read_text())
    place.apply()
    revoke(place)
    files = ("--credentials", str(place.folder / "order.json"), "--no-rollback")
    # 6: refused, and the mount does not serve either.
    assert rotate(place, *files, code=6)["errors"][0]["code"] == "revoked-key"
    written = ("--credentials", str(place.folder / "order.json"))
    hosts = ("--allow-host", place.emulator.host)
    refused = place.run("config", "write", "order", *written, *hosts, code=5)
    assert refused["errors"][0]["code"] == "revoked-key"
    assert place.server.api("GET", "skyflow/order/config")[0] == 404

    new = place.credential("new.json", old["clientID"])
    rotate(place, "--credentials", str(place.folder / "new.json"), "--no-rollback")
    assert place.data("creds", "order", "writer")["key_id"] == new["keyID"]
    assert revocation_marks(place) == []
