"""``server_file``: the engine reads the key on the server; nothing here ever sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.approvals import Approvals, free, guarded
from support.bao import BaoServer
from support.emulator import RunningEmulator
from support.plugin import build_from, copy_source
from support.site import Site

pytestmark = pytest.mark.slow

PLUGIN = "skyflow-files"
MANIFEST = """version: 1
manifest: files
plugin: {name: skyflow-files}
defaults: {path_prefix: files}
mounts:
  order:
    credentials: {server_file: FILE}
    roles:
      producer: {role_ids: [r1]}
"""


@dataclass
class Place(Site):
    """A server whose engine may read files, and one mount's file."""

    file: Path
    client_id: str = ""

    def put_key(self) -> str:
        """Put another key of the mount's account into the file; return its id."""
        if not self.client_id:
            text = self.emulator.new_account("r1")
            self.client_id = json.loads(text)["clientID"]
        else:
            text = self.emulator.control.create_key(self.client_id).reveal()
        self.file.write_text(text)
        return json.loads(text)["keyID"]

    def live_key(self) -> str:
        return self.cli("config", "show", "order")["data"]["key_id"]


@pytest.fixture(scope="module")
def site(tmp_path_factory, bao: BaoServer, emulator: RunningEmulator) -> Place:
    folder = tmp_path_factory.mktemp("files")
    keys = folder / "keys"
    file = keys / "files" / "order" / "key.json"
    file.parent.mkdir(parents=True)
    sha256 = build_from(copy_source(folder / "src"), bao.plugin_dir, PLUGIN)
    made = Place(bao, emulator, folder, file)
    more = ("--allow-host", emulator.host, "--credentials-directory", str(keys))
    made.register(PLUGIN, sha256, *more)
    made.write("mounts.yaml", MANIFEST.replace("FILE", str(file)))
    return made


@pytest.fixture
def place(site: Place) -> Iterator[Place]:
    """The place with nothing mounted, whatever ran before."""
    yield site
    assert site.server.api("DELETE", "sys/mounts/files/order")[0] == 204


def test_validate_plan_dry_run_apply_and_rotate(place):
    first = place.put_key()
    assert place.cli("validate")["data"]["resolved"] == 0

    (config,) = [one for one in place.cli("plan")["data"]["actions"] if one["kind"] == "config"]
    changes = {one["field"]: one["after"] for one in config["changes"]}
    assert changes["credentials_file_path"] == str(place.file)
    assert "key_id" not in changes  # nobody here knows it

    dry = place.cli("apply", "--dry-run")
    assert dry["status"] in {"ok", "changes"}
    assert "on the server" in json.dumps(dry)

    applied = place.cli("apply", "-y")
    assert applied["status"] == "ok"
    assert place.live_key() == first
    assert place.cli("creds", "order", "producer")["data"]["key_id"] == first

    again = place.cli("plan")
    assert again["data"]["actions"] == []
    (warning,) = [one for one in again["data"]["warnings"] if one["code"] == "server-file-unread"]
    assert first in warning["why"]
    assert place.cli("apply", "-y")["status"] == "ok"

    refused = place.cli("rotate", "order", "-y", code=5)
    assert refused["errors"][0]["code"] == "unchanged-credential"

    second = place.put_key()
    tried = place.cli("rotate", "order", "--dry-run")["data"]["mounts"][0]
    assert (tried["from"], tried["to"], place.live_key()) == (first, second, first)
    (rotated,) = place.cli("rotate", "order", "-y")["data"]["mounts"]
    assert (rotated["result"], rotated["from"], rotated["to"]) == ("rotated", first, second)
    assert place.live_key() == second
    assert place.cli("plan")["data"]["actions"] == []

    private = json.loads(place.file.read_text())["privateKey"]
    assert private[40:80] not in place.server.audit_log.read_text()


def test_a_file_that_is_not_there_is_said_and_nothing_is_made_live(place):
    place.put_key()
    place.cli("apply", "-y")
    live = place.live_key()
    place.file.rename(place.file.with_suffix(".gone"))
    try:
        failed = place.cli("rotate", "order", "-y", code=65)
        assert "no credential of this mount can be read there" in json.dumps(failed["errors"])
        assert place.live_key() == live
    finally:
        place.file.with_suffix(".gone").rename(place.file)


def test_a_guarded_config_is_rotated_to_a_file_once_that_is_approved(place, tmp_path):
    """The one way on a guarded config: the approver sees a path, and no key."""
    place.put_key()
    place.cli("apply", "-y")
    exports = place.server.env()
    approvals = Approvals(SimpleNamespace(exports=exports)).set_up()
    token = approvals.operator(guarded("files/order/config"), free("files/*"))
    words = ("rotate", "order", "-y", "--pending", str(tmp_path / "pending.json"))
    first, second = place.live_key(), place.put_key()
    (waits,) = place.cli(*words, token=token, code=7)["data"]["mounts"]
    assert (waits["result"], place.live_key()) == ("pending", first)
    ((accessor, seen),) = approvals.waiting().items()
    assert seen["request_data"]["credentials_file_path"] == str(place.file)
    assert "credentials_json" not in seen["request_data"]
    approvals.approve(accessor)
    (done,) = place.cli(*words, token=token)["data"]["mounts"]
    assert (done["result"], done["from"], done["to"]) == ("rotated", first, second)
    config = place.cli("config", "show", "order")["data"]
    assert (config["key_id"], config["rotation"]["state"]) == (second, "committed")
    assert approvals.waiting() == {}
