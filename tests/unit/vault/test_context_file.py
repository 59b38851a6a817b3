"""The file of contexts: what is stored, who may write it, and what an error in it says."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from skyflowctl.errors import InvalidInputError, RefusedError
from skyflowctl.vault.context_file import ContextFile
from skyflowctl.vault.contexts import ContextEntry, Contexts, LoginSettings

FULL = ContextEntry(
    "prod",
    "https://a:8200",
    "team/eu",
    ca_cert="/ca.pem",
    nodes=("https://b:8200", "https://c:8200"),
    ca_path="/ca",
    client_cert="/c.pem",
    client_key="/k.pem",
    tls_server_name="bao",
    path_prefix="team/skyflow",
    login=LoginSettings("oidc", "corp", "oncall", "u", "r", "env:X", "https://aud"),
)


@pytest.fixture
def file(tmp_path: Path) -> ContextFile:
    return ContextFile(tmp_path / "config" / "skyflowctl" / "contexts.json")


def add(file: ContextFile, entry: ContextEntry) -> Contexts:
    return file.change(lambda now: replace(now, entries={**now.entries, entry.name: entry}))


def written(file: ContextFile, text: str | bytes, mode: int = 0o600) -> ContextFile:
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.path.chmod(mode)
    return file


def test_no_file_is_no_context(file):
    assert file.load() == Contexts()
    assert not file.path.exists()


def test_every_field_comes_back(file):
    add(file, FULL)
    file.change(lambda now: replace(now, current="prod"))
    assert file.load() == Contexts("prod", {"prod": FULL})
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_change_that_changes_nothing_does_not_write(file):
    add(file, FULL)
    before = file.path.stat().st_ino
    add(file, FULL)
    assert file.path.stat().st_ino == before


def test_of_many_writers_at_once_none_is_lost(file):
    def one(number: int) -> None:
        add(file, ContextEntry(f"c{number}", f"https://h{number}"))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(file.load().entries) == sorted(f"c{number}" for number in range(12))


BODY = '{"format": "skyflowctl-contexts/1",\n "contexts": {"a": {"address": "https://a"},\n  "b": '


@pytest.mark.parametrize(
    ("text", "line", "column", "why"),
    [
        ("{\n  garbage", 2, 3, "property name"),
        ("\x00\x01", 1, 1, "Expecting value"),
        (b"{}\n\xff", 2, 1, "UTF-8"),
        ("[]", 1, 1, "format"),
        ("[" * 100_000, 1, 1, "deep"),
        ('{"format": "skyflowctl-contexts/2"}', 1, 1, "format"),
        ('{"format": "skyflowctl-contexts/1",\n "token": "x"}', 2, 11, "no such key"),
        ('{"format": "skyflowctl-contexts/1",\n "current": "b"}', 2, 13, "no such context"),
        ('{"format": "skyflowctl-contexts/1",\n "contexts": []}', 2, 14, "object"),
        (BODY + "7}}", 3, 8, "object"),
        (BODY + "{}}}", 3, 8, "no address"),
        (BODY + '{"address": "ftp://x"}}}', 3, 20, "not a URL"),
        (BODY + '{"address": "https://x",\n "nodes": ["https://y", "z"]}}}', 4, 11, "not a URL"),
        (BODY + '{"address": "https://x", "token": "hvs.secret"}}}', 3, 42, "no such key"),
        (BODY + '{"address": 7}}}', 3, 20, "printable"),
        (BODY + '{"address": "https://x", "login": {"method": "magic"}}}}', 3, 53, "none of"),
        (BODY + '{"address": "https://x", "path_prefix": "A b"}}}', 3, 48, "lower-case"),
        ('{"format": "x", "format": "skyflowctl-contexts/1"}', 1, 1, "twice"),
    ],
)
def test_garbage_is_named_with_its_place(file, text, line, column, why):
    with pytest.raises(InvalidInputError) as caught:
        written(file, text).load()
    problem = caught.value.problems[0]
    assert (problem.where.line, problem.where.column) == (line, column), problem
    assert why in problem.why
    assert "secret" not in str(problem)


def test_garbage_is_not_overwritten(file):
    written(file, "{")
    with pytest.raises(InvalidInputError):
        add(file, FULL)
    assert file.path.read_text() == "{"


def test_a_huge_file_is_not_read_whole(file):
    with pytest.raises(InvalidInputError, match="contexts"):
        written(file, b" " * ((1 << 20) + 1)).load()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(file, mode):
    written(file, json.dumps({"format": "skyflowctl-contexts/1"}), mode)
    for use in (file.load, lambda: add(file, FULL)):
        with pytest.raises(RefusedError) as caught:
            use()
        assert "others may write it" in caught.value.problems[0].why


def test_a_link_is_refused_and_its_target_not_changed(file, tmp_path):
    target = tmp_path / "target.json"
    target.write_text("mine")
    file.path.parent.mkdir(parents=True)
    file.path.symlink_to(target)
    for use in (file.load, lambda: add(file, FULL)):
        with pytest.raises(RefusedError) as caught:
            use()
        assert "link" in caught.value.problems[0].why
    assert target.read_text() == "mine"


def test_a_folder_that_is_a_link_is_not_written_through(file, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    file.path.parent.parent.mkdir()
    file.path.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError):
        add(file, FULL)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(file):
    written(file, json.dumps({"format": "skyflowctl-contexts/1"}))
    os.chown(file.path, 65534, 65534)
    with pytest.raises(RefusedError) as caught:
        file.load()
    assert "another user" in caught.value.problems[0].why
