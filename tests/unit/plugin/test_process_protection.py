"""The plugin's process: what it closes, and when it says that files run out."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from skyflowctl.plugin import protection
from skyflowctl.plugin.protection import TooManyFilesError, check_room_for_mount

_REPORT = """
import json, resource
from skyflowctl.plugin.protection import protect_process, raise_file_limit
found = protect_process()
raise_file_limit()
status = open("/proc/self/status").read()
print(json.dumps({
    "found": found.to_json(),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "locked": "VmLck:\\t       0 kB" not in status,
}))
threads = [bytearray(1 << 20) for _ in range(8)]
"""


def _report(**limits: tuple[int, int]) -> dict:
    def limit() -> None:
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), value)

    done = subprocess.run(
        [sys.executable, "-c", _REPORT], capture_output=True, text=True, check=True,
        preexec_fn=limit, timeout=30,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_h6_no_core_dump_and_not_dumpable():
    told = _report()
    assert told["core"] == [0, 0]
    assert (told["found"]["core_dumps"], told["found"]["dumpable"]) == (False, False)
    assert told["found"]["swappable"] is not told["locked"]


def test_h6_memory_is_locked_only_without_a_limit(monkeypatch: pytest.MonkeyPatch):
    limit = {"value": (resource.RLIM_INFINITY, resource.RLIM_INFINITY)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limit["value"])
    assert protection._may_lock()
    limit["value"] = (1 << 23, 1 << 23)
    with Path("/proc/self/status").open(encoding="ascii") as status:
        line = next(line for line in status if line.startswith("CapEff:"))
    assert protection._may_lock() is bool(int(line.split()[1], 16) >> 14 & 1)


def test_g2_the_soft_limit_of_open_files_becomes_the_hard_one():
    assert _report(RLIMIT_NOFILE=(256, 700))["files"] == [700, 700]


def test_g2_a_mount_without_room_is_refused_in_clear_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4096, 4096))
    check_room_for_mount(3)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (70, 70))
    with pytest.raises(TooManyFilesError) as caught:
        check_room_for_mount(17)
    assert "serves 17 mounts and may open 70 files" in str(caught.value)
    assert "LimitNOFILE=140" in str(caught.value)
