"""Bad credentials of every kind, through the real ``validate``: said where and why, never shown."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.bad_credentials import KINDS
from support.keys import credential, pkcs8, rsa_key
from support.leaks import find_leaks, needle
from support.stack import Stack, clean_environ

MANIFEST = """\
version: 1
manifest: shop
mounts:
  order:
    credentials: {file: key.json}
    roles: {reader: {role_ids: [role-1]}}
"""
PLACE = "mounts.yaml:5:25"


def validate(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    nowhere = Stack(folder, {**clean_environ(), "HOME": str(folder)})
    return nowhere.cli("validate", *more, check=None)


def write(folder: Path, content: str | bytes) -> None:
    (folder / "mounts.yaml").write_text(MANIFEST)
    path = folder / "key.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)


def keys_in(content: str | bytes) -> list[str]:
    """The key's text as this file has it, and the good key that it was made from."""
    try:
        found = json.loads(content)["privateKey"]
    except (ValueError, TypeError, KeyError, RecursionError):
        found = None
    pems = {pkcs8(rsa_key()), pkcs8(rsa_key("small", 1024))}
    return [*pems, *([found] if isinstance(found, str) else [])]


def test_the_unchanged_file_is_valid(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(credential()))
    done = validate(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_kinds_are_as_many_as_promised() -> None:
    assert len(KINDS) >= 25


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_credential_is_said_where_and_why_and_never_shown(tmp_path: Path, kind: str) -> None:
    make, words = KINDS[kind]
    content = make(credential())
    write(tmp_path, content)
    done = validate(tmp_path, "-o", "json")
    assert done.returncode == 65, done.stderr
    told = [error for error in json.loads(done.stdout)["errors"] if words in error["summary"]]
    assert len(told) == 1, done.stdout
    where = told[0]["where"]
    assert f"{where['file']}:{where['line']}:{where['column']}" == PLACE
    assert told[0]["fix"]
    people = validate(tmp_path)
    assert people.returncode == 65
    said = [line for line in people.stderr.splitlines() if words in line]
    assert [line.startswith(f"{PLACE}: error: ") for line in said] == [True], people.stderr
    outputs = {"json": done.stdout + done.stderr, "people": people.stdout + people.stderr}
    assert "Traceback" not in "".join(outputs.values())
    needles = [needle("key", key) for key in keys_in(content) if len(key) > 100]
    assert len(needles) >= 2
    assert find_leaks({name: text.encode() for name, text in outputs.items()}, needles) == []
