"""``mount enable`` and ``mount disable`` on a real server: one mount of a manifest of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stack import Stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

PATH = "enabling/ledger"
MANIFEST = """version: 1
manifest: enabling
defaults: {path_prefix: enabling}
mounts:
  ledger:
    description: The ledger
    credentials: {file: credentials/nowhere.json}
    roles:
      reader: {role_ids: [skyflow-ledger]}
"""


@pytest.fixture
def file(stack: Stack, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mounts.yaml"
    path.write_text(MANIFEST)
    yield path
    for one in stack.api("GET", "sys/mounts")["data"]:
        if one.startswith("enabling/"):
            stack.bao("secrets", "disable", one)


def run(stack: Stack, file: Path, *words: str, check: int = 0) -> dict:
    return stack.json(*words, "-f", str(file), check=check)


def actions(stack: Stack, file: Path) -> set[tuple[str, str]]:
    planned = run(stack, file, "plan")["data"]["actions"]
    return {(one["action"], one["kind"]) for one in planned}


def test_it_enables_the_mount_that_an_apply_would_and_only_that(stack: Stack, file: Path) -> None:
    made = run(stack, file, "mount", "enable", "ledger")["data"]
    assert (made["path"], made["result"], made["differs"]) == (PATH, "enabled", [])
    live = stack.api("GET", f"sys/mounts/{PATH}")["data"]
    assert (live["type"], live["description"]) == ("skyflow", "The ledger")
    assert (live["options"]["managed_by"], live["options"]["manifest"]) == (
        "skyflowctl",
        "enabling",
    )
    assert live["running_plugin_version"].removeprefix("v") == made["version"].removeprefix("v")
    assert actions(stack, file) == {("create", "role"), ("create", "config")}
    again = run(stack, file, "mount", "enable", PATH)["data"]
    assert (again["result"], again["differs"]) == ("present", [])


def test_a_mount_that_exists_is_not_written(stack: Stack, file: Path) -> None:
    stack.bao("secrets", "enable", f"-path={PATH}", "-description=by hand", "skyflow")
    before = stack.api("GET", f"sys/mounts/{PATH}")["data"]
    made = run(stack, file, "mount", "enable", "ledger")["data"]
    assert made["result"] == "present"
    assert {"description", "options.manifest"} <= set(made["differs"])
    assert stack.api("GET", f"sys/mounts/{PATH}")["data"] == before
    shown = stack.cli("mount", "enable", "ledger", "-f", str(file), exported=True)
    assert f"{PATH} exists." in shown.stdout
    assert "an apply would change: description" in shown.stderr


@pytest.mark.parametrize(
    ("path", "words", "code"),
    [
        (PATH, ("-description=x", "kv"), "type-differs"),
        (f"{PATH}/below", ("kv",), "path-in-use"),
    ],
)
def test_a_path_in_use_is_refused(stack: Stack, file: Path, path, words, code) -> None:
    *flags, kind = words
    stack.bao("secrets", "enable", f"-path={path}", *flags, kind)
    refused = run(stack, file, "mount", "enable", "ledger", check=5)
    assert [one["code"] for one in refused["errors"]] == [code]


def test_a_mount_that_was_moved_is_not_enabled_twice(stack: Stack, file: Path) -> None:
    run(stack, file, "mount", "enable", "ledger")
    stack.bao("secrets", "move", PATH, "enabling/books")
    refused = run(stack, file, "mount", "enable", "ledger", check=5)
    assert [one["code"] for one in refused["errors"]] == ["moved-mount"]
    file.write_text(MANIFEST + "moved: [{from: enabling/books, to: enabling/ledger}]\n")
    refused = run(stack, file, "mount", "enable", "ledger", check=5)
    assert [one["code"] for one in refused["errors"]] == ["needs-allow-move"]


def test_a_misspelled_name_is_recognised(stack: Stack, file: Path) -> None:
    refused = run(stack, file, "mount", "enable", "leger", check=64)
    assert refused["errors"][0]["fix"] == 'did you mean "ledger"?'
    run(stack, file, "mount", "enable", "ledger")
    absent = stack.cli("mount", "disable", "leger", "-y", "-f", str(file), exported=True)
    assert "enabling/leger does not exist." in absent.stdout
    assert 'did you mean "ledger"?' in absent.stderr


def test_yes_alone_deletes_no_mount(stack: Stack, file: Path) -> None:
    run(stack, file, "mount", "enable", "ledger")
    words = ("mount", "disable", "ledger", "-y")
    refused = run(stack, file, *words, check=5)
    assert refused["errors"][0]["code"] == "needs-allow-destroy"
    assert run(stack, file, *words, f"--allow-destroy={PATH}")["data"]["result"] == "disabled"
