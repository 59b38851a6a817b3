"""Notes of who is at a rotation: private, and unknown rather than wrong."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest

from skyflowctl.rotation import owner_file as module
from skyflowctl.rotation.owner_file import OwnerFile

HERE = "https://bao.example:8200"


@pytest.fixture
def owners(tmp_path):
    return OwnerFile(tmp_path / "state" / "rotations", HERE)


def note(owners):
    (file,) = owners._folder.iterdir()
    return file


def changed(owners, **fields):
    file = note(owners)
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_this_process_is_alive_until_it_has_ended(owners):
    assert owners.owner_alive("skyflow/order", "run-1") is None
    owners.begin("skyflow/order", "run-1")
    assert owners.owner_alive("skyflow/order", "run-1") is True
    owners.end("skyflow/order")
    assert owners.owner_alive("skyflow/order", "run-1") is None
    assert list(owners._folder.iterdir()) == []
    owners.end("skyflow/order")


def test_another_rotation_mount_or_server_is_not_known(owners):
    owners.begin("skyflow/order", "run-1")
    assert owners.owner_alive("skyflow/order", "run-2") is None
    assert owners.owner_alive("skyflow/payment", "run-1") is None
    assert OwnerFile(owners._folder, "https://other").owner_alive(
        "skyflow/order", "run-1"
    ) is None  # fmt: skip


def test_only_its_owner_may_read_it(owners):
    owners._folder.mkdir(parents=True, mode=0o755)
    for rotation in ("run-1", "run-2"):
        owners.begin("skyflow/order", rotation)
    assert stat.S_IMODE(owners._folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(note(owners).stat().st_mode) == 0o600
    assert owners.owner_alive("skyflow/order", "run-2") is True


def test_a_process_that_has_ended_is_dead(owners):
    script = (
        "import sys; from pathlib import Path\n"
        "from skyflowctl.rotation.owner_file import OwnerFile\n"
        "OwnerFile(Path(sys.argv[1]), sys.argv[2]).begin('skyflow/order', 'run-1')\n"
    )
    subprocess.run([sys.executable, "-c", script, owners._folder, HERE], check=True)
    assert owners.owner_alive("skyflow/order", "run-1") is False


def test_a_number_that_was_given_again_is_not_taken_for_alive(owners):
    owners.begin("skyflow/order", "run-1")
    assert json.loads(note(owners).read_text())["pid"] == os.getpid()
    changed(owners, started="1")
    assert owners.owner_alive("skyflow/order", "run-1") is False


def test_where_nobody_tells_when_a_process_started_it_is_unknown(owners, monkeypatch):
    monkeypatch.setattr(module, "_start_of", lambda pid: "")
    owners.begin("skyflow/order", "run-1")
    assert owners.owner_alive("skyflow/order", "run-1") is None


@pytest.mark.parametrize(
    "fields", [{"machine": "elsewhere"}, {"pid": 0}, {"pid": -1}, {"pid": 2**70}, {"pid": "x"}]
)
def test_what_means_nothing_here_is_unknown(owners, fields):
    owners.begin("skyflow/order", "run-1")
    changed(owners, **fields)
    assert owners.owner_alive("skyflow/order", "run-1") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '"x"', "\x00", "[" * 100_000])
def test_a_damaged_note_is_unknown(owners, text):
    owners.begin("skyflow/order", "run-1")
    note(owners).write_text(text)
    assert owners.owner_alive("skyflow/order", "run-1") is None


def test_bytes_that_are_no_text_are_unknown(owners):
    owners.begin("skyflow/order", "run-1")
    note(owners).write_bytes(b"\xff\xfe\x00")
    assert owners.owner_alive("skyflow/order", "run-1") is None


def test_a_folder_that_cannot_be_made_fails_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    owners = OwnerFile(tmp_path / "file" / "rotations", HERE)
    owners.begin("skyflow/order", "run-1")
    assert owners.owner_alive("skyflow/order", "run-1") is None
    owners.end("skyflow/order")
