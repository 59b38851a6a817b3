"""A credential file is read only from the asking mount's own folder, never through a link."""

import os
from pathlib import Path

import pytest

from skyflowctl.engine.key_files import KEY_FILE_MAX_BYTES, UnreadableFileError, read_key_file

MOUNT = "team-a/skyflow/order/"


@pytest.fixture
def directory(tmp_path):
    own = tmp_path / MOUNT
    other = tmp_path / "team-a/skyflow/payment"
    own.mkdir(parents=True)
    other.mkdir()
    (own / "key.json").write_text("own")
    (own / "deep").mkdir()
    (own / "deep" / "key.json").write_text("deep")
    (other / "key.json").write_text("another mount's")
    return tmp_path


def read(directory, path, mount=MOUNT):
    return read_key_file(str(directory), mount, str(path)).reveal()


def test_own_files(directory):
    assert read(directory, directory / MOUNT / "key.json") == "own"
    assert read(directory, directory / MOUNT / "deep/key.json") == "deep"
    assert read(directory, f"{directory}/{MOUNT}./key.json") == "own"


@pytest.mark.parametrize(
    "path",
    [
        "{d}/team-a/skyflow/payment/key.json",
        "{d}/team-a/skyflow/order/../payment/key.json",
        "{d}/team-a/skyflow/order/missing.json",
        "{d}/team-a/skyflow/order/deep",
        "{d}/team-a/skyflow/order",
        "{d}/team-a/skyflow/order/",
        "{d}",
        "team-a/skyflow/order/key.json",
        "key.json",
        "",
        "/etc/hostname",
        "{d}/team-a/skyflow/order/key.json\0",
        "{d}/../{n}/team-a/skyflow/payment/key.json",
    ],
)
def test_everything_else_is_refused_alike(directory, path):
    with pytest.raises(UnreadableFileError) as caught:
        read(directory, path.format(d=directory, n=directory.name))
    assert str(caught.value) == ""


@pytest.mark.parametrize("mount", ["", "/", "../", "team-a/../", "team-a//skyflow/"])
def test_an_odd_mount_point_reaches_nothing(directory, mount):
    with pytest.raises(UnreadableFileError):
        read(directory, directory / "team-a/skyflow/order/key.json", mount)


def test_links_are_not_followed(directory):
    own = directory / MOUNT
    (own / "link.json").symlink_to(directory / "team-a/skyflow/payment/key.json")
    (own / "folder").symlink_to(directory / "team-a/skyflow/payment")
    for path in ("link.json", "folder/key.json"):
        with pytest.raises(UnreadableFileError):
            read(directory, own / path)


def test_only_regular_files_of_text_and_limited_size(directory):
    own = directory / MOUNT
    os.mkfifo(own / "pipe")
    (own / "large").write_bytes(b"x" * (KEY_FILE_MAX_BYTES + 1))
    (own / "binary").write_bytes(b"\xff\xfe")
    for name in ("pipe", "large", "binary"):
        with pytest.raises(UnreadableFileError):
            read(directory, own / name)
    (own / "just").write_bytes(b"x" * KEY_FILE_MAX_BYTES)
    assert len(read(directory, own / "just")) == KEY_FILE_MAX_BYTES


def test_no_descriptor_stays_open(directory):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("key.json", "deep/key.json", "missing", "deep"):
        try:
            read(directory, directory / MOUNT / name)
        except UnreadableFileError:
            continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before
