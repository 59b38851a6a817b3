"""Printed fixes work as they stand: copied into a shell, they act on the same files and server."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.stack import BIN, Stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

MANIFEST = """version: 1
manifest: printed
defaults: {path_prefix: printed}
mounts:
  printed-one:
    credentials: {file: one.json}
    roles:
      keeper: {role_ids: [skyflow-keeper]}
"""
OLD_ROLE = "      old: {role_ids: [skyflow-old]}\n"
MORE = """version: 1
manifest: printed
mounts:
  printed-two:
    credentials: {file: two.json}
    roles:
      reader: {role_ids: [skyflow-reader]}
"""


@pytest.fixture
def files(stack: Stack, tmp_path: Path) -> Iterator[list[Path]]:
    folder = tmp_path / "the shop's files"
    folder.mkdir()
    made = [folder / "mounts v2.yaml", folder / "$more.yaml"]
    for path, text in zip(made, (MANIFEST + OLD_ROLE, MORE), strict=True):
        path.write_text(text)
    yield made
    for one in stack.api("GET", "sys/mounts")["data"]:
        if one.startswith("printed/"):
            stack.bao("secrets", "disable", one)


def test_a_fix_that_is_copied_into_a_shell_names_the_same_files_and_server(
    stack: Stack, files: list[Path], tmp_path: Path
) -> None:
    token = tmp_path / "a token"
    token.write_text(stack.exports["BAO_TOKEN"])
    token.chmod(0o600)
    address, ca = stack.exports["BAO_ADDR"], stack.exports["BAO_CACERT"]
    where = ["--address", address, "--ca-cert", ca, "--token-file", str(token)]
    words = [*(word for path in files for word in ("-f", str(path))), *where]

    unwell = stack.cli("health", *words, check=6)
    create = fix(unwell.stderr, "create it with")
    run(create, "-y", cwd=stack.folder, env=stack.environ)
    assert "ok" in stack.cli("health", *words).stdout

    files[0].write_text(MANIFEST)
    prune = fix(stack.cli("plan", *words).stdout, "add it to printed-one")
    assert " --prune" in prune
    before = stack.api("GET", "sys/mounts")["data"].keys()
    run(prune, "-y", cwd=stack.folder, env=stack.environ)
    assert stack.api("GET", "printed/printed-one/roles?list=true")["data"]["keys"] == ["keeper"]
    assert stack.api("GET", "sys/mounts")["data"].keys() == before
    assert "No changes" in stack.cli("plan", *words).stdout


def fix(text: str, about: str) -> str:
    """The command in quotes in a printed fix."""
    (line,) = {line for line in text.splitlines() if "fix" in line and about in line}
    found = re.search(r"'(skyflowctl (?:\\.|[^\\'])*)'", line)
    assert found, line
    return found[1]


def run(command: str, *more: str, cwd: Path, env: Mapping[str, str]) -> None:
    """Run a command as it was printed; ``more`` answers its question."""
    line = " ".join((command, *more)).replace("skyflowctl", str(BIN / "skyflowctl"), 1)
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
