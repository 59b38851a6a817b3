"""Where parked requests are kept: their owner's alone, whole at any time, gone when used."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyflowctl.credentials.schemes import keyring as os_keyring
from skyflowctl.errors import InvalidInputError, RefusedError
from skyflowctl.secret import Secret
from skyflowctl.vault.pending_store import (
    PENDING_FORMAT,
    SERVICE,
    CachedStore,
    FileStore,
    KeyringStore,
    StoredRequest,
    encode_entries,
    noted_files,
)

TESTS = Path(__file__).resolve().parents[2]
NOBODY = 65534


def request(accessor: str = "a1") -> StoredRequest:
    return StoredRequest(
        token=Secret(f"token of {accessor}"),
        accessor=accessor,
        method="POST",
        path="skyflow/order/config",
        version="",
        namespace="",
        digest="d",
        before="b",
        run="01m8gedd5r63ak1d",
        scope="",
        cluster="c",
        expires_at="2026-11-28T07:45:20Z",
    )


def add(store: FileStore | KeyringStore, accessor: str = "a1") -> None:
    store.change(lambda entries: [*entries, request(accessor)])


def clear(store: FileStore | KeyringStore) -> None:
    store.change(lambda _entries: [])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pending.json"


def put(file: Path, text: str | bytes) -> None:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(0o600)


def test_a_kept_request_is_read_back_whole_by_its_owner_alone(file: Path) -> None:
    add(FileStore(file))
    (found,) = FileStore(file).load()
    assert found.to_json() == request().to_json()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "token of a1" not in repr(found)


def test_the_file_is_removed_with_its_last_request_and_nothing_is_left(file: Path) -> None:
    store = FileStore(file)
    add(store, "a1")
    add(store, "a2")
    store.change(lambda entries: [one for one in entries if one.accessor != "a1"])
    assert [one.accessor for one in store.load()] == ["a2"]
    clear(store)
    assert list(file.parent.iterdir()) == []
    assert store.load() == []


ENTRY = request().to_json()
DAMAGED = {
    "cut": encode_entries([request()])[:-9],
    "no JSON": "pending",
    "no text": b"\xff\xfe\x00",
    "a list": "[]",
    "another format": json.dumps({"format": "skyflowctl-pending/2", "requests": []}),
    "no requests": json.dumps({"format": PENDING_FORMAT}),
    "requests are a number": json.dumps({"format": PENDING_FORMAT, "requests": 1}),
    "a request is null": json.dumps({"format": PENDING_FORMAT, "requests": [None]}),
    "a field is missing": json.dumps(
        {"format": PENDING_FORMAT, "requests": [{k: v for k, v in ENTRY.items() if k != "digest"}]}
    ),
    "a field is a number": json.dumps(
        {"format": PENDING_FORMAT, "requests": [{**ENTRY, "run": 1}]}
    ),
    "the token is missing": json.dumps(
        {"format": PENDING_FORMAT, "requests": [{k: v for k, v in ENTRY.items() if k != "token"}]}
    ),
    "the token is null": json.dumps(
        {"format": PENDING_FORMAT, "requests": [{**ENTRY, "token": None}]}
    ),
    "a time is none": json.dumps(
        {"format": PENDING_FORMAT, "requests": [{**ENTRY, "expires_at": "tomorrow"}]}
    ),
    "too deep": "[" * 100_000,
    "larger than any of ours": encode_entries([request()]) + " " * 4 * 1024 * 1024 + "x",
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused_and_left_as_it_is(file: Path, damage: str) -> None:
    put(file, DAMAGED[damage])
    before = file.read_bytes()
    with pytest.raises(InvalidInputError) as read:
        FileStore(file).load()
    with pytest.raises(InvalidInputError):
        add(FileStore(file))
    assert read.value.problems[0].code == "pending-file-invalid"
    assert "token of a1" not in str(read.value.problems)
    assert file.read_bytes() == before


def test_an_empty_file_keeps_nothing(file: Path) -> None:
    put(file, "")
    assert FileStore(file).load() == []


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o644, 0o666, 0o610])
def test_a_file_that_others_may_open_is_refused(file: Path, mode: int) -> None:
    put(file, encode_entries([request()]))
    file.chmod(mode)
    refused(file, "others may read or write it")


@pytest.mark.parametrize("to", ["a file", "nothing"])
def test_a_link_is_not_followed(file: Path, tmp_path: Path, to: str) -> None:
    target = tmp_path / "target"
    if to == "a file":
        put(target, encode_entries([request()]))
    file.symlink_to(target)
    refused(file, "it is a link")
    assert target.exists() is (to == "a file")
    assert file.is_symlink()


def test_a_hard_link_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "one", "")
    os.link(tmp_path / "one", tmp_path / "two")
    refused(tmp_path / "two", "hard link")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "")
    os.mkfifo(tmp_path / "pipe", 0o600)
    refused(tmp_path / "pipe", "it is not a regular file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_refused(file: Path) -> None:
    put(file, encode_entries([request()]))
    os.chown(file, NOBODY, NOBODY)
    refused(file, "it belongs to another user")


def refused(file: Path, why: str) -> None:
    """Neither read nor written, and said why."""
    for act in (lambda: FileStore(file).load(), lambda: add(FileStore(file))):
        with pytest.raises(RefusedError) as told:
            act()
        assert told.value.problems[0].code == "pending-file-unsafe"
        assert why in told.value.problems[0].why


def test_a_folder_that_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "missing" / "pending.json")
    assert store.load() == []
    with pytest.raises(RefusedError, match="cannot store"):
        add(store)
    assert not (tmp_path / "missing").exists()


def test_a_change_that_fails_leaves_what_was_kept(file: Path) -> None:
    add(FileStore(file))
    before = file.read_bytes()

    def fail(_entries: list[StoredRequest]) -> list[StoredRequest]:
        raise RefusedError("no", why="no", fix="no")

    with pytest.raises(RefusedError):
        FileStore(file).change(fail)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


MANY = 40
WRITER = """
import sys
from collections.abc import Iterator
from pathlib import Path
from test_pending_store import add, MANY, FileStore
name, file, keep = sys.argv[1:]
store = FileStore(Path(file))
for number in range(MANY):
    mine = f"{name}{number}"
    add(store, mine)
    if keep == "no":
        store.change(lambda entries: [one for one in entries if one.accessor != mine])
"""


def two_writers(file: Path, keep: str) -> None:
    folders = os.pathsep.join([str(TESTS), str(Path(__file__).parent)])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name, str(file), keep],
            env={**os.environ, "PYTHONPATH": folders},
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("x", "y")
    ]
    told = [one.communicate(timeout=60)[1] for one in writers]
    assert [one.returncode for one in writers] == [0, 0], told


def test_two_processes_at_once_lose_no_request(file: Path) -> None:
    two_writers(file, "yes")
    kept = sorted(one.accessor for one in FileStore(file).load())
    assert kept == sorted(f"{name}{number}" for name in "xy" for number in range(MANY))


def test_two_processes_that_add_and_remove_leave_no_file(file: Path) -> None:
    """Each removes the file under the other's feet, again and again."""
    two_writers(file, "no")
    assert list(file.parent.iterdir()) == []


class CountedStore(FileStore):
    """A file whose loads are counted."""

    loads = 0

    def load(self) -> list[StoredRequest]:
        self.loads += 1
        return super().load()


def accessors(store: FileStore | CachedStore) -> list[str]:
    return [one.accessor for one in store.load()]


def test_a_cached_store_is_read_once_and_then_only_where_it_is_changed(file: Path) -> None:
    inner = CountedStore(file)
    store = CachedStore(inner)
    assert (store.kind, accessors(store), accessors(store)) == ("file", [], [])
    add(FileStore(file), "another command's")
    assert accessors(store) == []
    store.change(lambda entries: [*entries, request("mine")])
    assert accessors(store) == accessors(FileStore(file)) == ["another command's", "mine"]
    store.load().clear()
    assert accessors(store) == ["another command's", "mine"]
    assert inner.loads == 1


def test_a_cached_store_keeps_what_it_knew_when_a_change_fails(file: Path) -> None:
    store = CachedStore(FileStore(file))
    store.change(lambda entries: [*entries, request("a1")])
    file.chmod(0o644)
    with pytest.raises(RefusedError):
        store.change(lambda _entries: [])
    assert accessors(store) == ["a1"]


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file behind the keyring of this test."""
    import keyring
    from support.file_keyring import FileKeyring

    monkeypatch.setenv("TEST_KEYRING_FILE", str(tmp_path / "ring.json"))
    before = keyring.get_keyring()
    keyring.set_keyring(FileKeyring())
    yield tmp_path / "ring.json"
    keyring.set_keyring(before)


def test_the_keyring_keeps_a_cluster_apart_and_forgets_what_was_used(
    ring: Path, tmp_path: Path
) -> None:
    marks = tmp_path / "state" / "pending"
    one, other = KeyringStore("one", marks, os_keyring), KeyringStore("other", marks, os_keyring)
    add(one, "a1")
    add(other, "a2")
    assert [entry.accessor for entry in one.load()] == ["a1"]
    assert all(mark.read_bytes() == b"" for mark in marks.iterdir())
    clear(one)
    assert one.load() == []
    assert [entry.accessor for entry in other.load()] == ["a2"]
    clear(other)
    assert json.loads(ring.read_text()) == {}
    assert list(marks.iterdir()) == []


def test_a_keyring_that_fails_while_it_is_read_hides_no_request(
    ring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = KeyringStore("one", tmp_path / "marks", os_keyring)
    add(store, "a1")

    def locked(service: str, user: str) -> None:
        raise OSError("locked meanwhile")

    with monkeypatch.context() as patch:
        patch.setattr("skyflowctl.credentials.schemes.keyring.stored", locked)
        with pytest.raises(OSError, match="locked meanwhile"):
            add(store, "a2")
    assert [entry.accessor for entry in store.load()] == ["a1"]


def test_a_damaged_keyring_entry_is_said_and_never_written_over(ring: Path, tmp_path: Path) -> None:
    import keyring

    store = KeyringStore("one", tmp_path / "marks", os_keyring)
    add(store, "a1")
    keyring.set_password(SERVICE, "one", "damaged")
    before = ring.read_text()
    for use in (store.load, lambda: add(store, "a2")):
        with pytest.raises(InvalidInputError) as caught:
            use()
        assert caught.value.problems[0].code == "pending-keyring-invalid"
    assert ring.read_text() == before


def test_without_a_keyring_nothing_is_kept_and_that_is_said(tmp_path: Path) -> None:
    import keyring
    from keyring.backends.null import Keyring

    before = keyring.get_keyring()
    keyring.set_keyring(Keyring())
    try:
        with pytest.raises(RefusedError) as told:
            add(KeyringStore("one", tmp_path / "marks", os_keyring))
    finally:
        keyring.set_keyring(before)
    assert told.value.problems[0].code == "no-keyring"
    assert not (tmp_path / "marks").exists()


def test_files_are_noted_while_they_hold_requests(file, tmp_path):
    marks = tmp_path / "state" / "pending-files"
    assert noted_files(marks) == []
    store = FileStore(file, marks)
    add(store)
    add(FileStore(tmp_path / "other.json", marks))
    assert noted_files(marks) == sorted([file, tmp_path / "other.json"], key=_mark)
    clear(store)
    assert noted_files(marks) == [tmp_path / "other.json"]
    assert len(list(marks.iterdir())) == 1


def _mark(path: Path) -> str:
    return hashlib.sha256(str(path).encode()).hexdigest()


def test_a_file_that_cannot_be_noted_is_written_all_the_same(file, tmp_path):
    (tmp_path / "state").write_text("no folder")
    add(FileStore(file, tmp_path / "state" / "pending-files"))
    assert len(FileStore(file).load()) == 1
