"""References to secrets: what each scheme returns, and how it says that it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import keyring
import keyring.backends.fail
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from skyflowctl.credentials import exposure
from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.credentials.schemes import env, file
from skyflowctl.credentials.schemes import keyring as keyring_scheme
from skyflowctl.errors import ExitCode
from skyflowctl.secret import Secret


class FolderKeyring(KeyringBackend):
    """A real backend that works without a desktop: one file per entry in a folder."""

    priority = 0.1
    folder = None

    def get_password(self, service, username):
        path = self.folder / service / username
        return path.read_text() if path.exists() else None

    def set_password(self, service, username, password):
        path = self.folder / service / username
        path.parent.mkdir(exist_ok=True)
        path.write_text(password)

    def delete_password(self, service, username):
        (self.folder / service / username).unlink()


class LockedKeyring(FolderKeyring):
    def get_password(self, service, username):
        raise KeyringLocked("locked: hunter2")


@pytest.fixture
def use_keyring():
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


READERS = {"file": file.read, "env": env.read, "keyring": keyring_scheme.read}


def read_secret(scheme, target):
    return READERS[scheme](*target)


def problem_of(scheme, *target):
    with pytest.raises(UnresolvedReferenceError) as caught:
        read_secret(scheme, target)
    assert caught.value.exit_code is ExitCode.INVALID
    (problem,) = caught.value.problems
    assert problem.fix
    return problem


def test_a_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": "ü"}\n')
    assert read_secret("file", (str(path),)) == Secret('{"a": "ü"}\n')


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    assert read_secret("file", (str(tmp_path / "link"),)) == Secret("x")


def test_a_missing_file(tmp_path):
    for name in ("none", "file/below"):
        (tmp_path / "file").touch()
        problem = problem_of("file", str(tmp_path / name))
        assert problem.code == "reference-missing"
        assert name in problem.summary


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert problem_of("file", str(path)).why == "it is not a regular file"
    assert problem_of("file", "a\0b").code == "reference-unreadable"


def test_a_file_of_someone_else(monkeypatch):
    # Asked of the system in this way because root may read everything.
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("skyflowctl.credentials.schemes.file.os.open", refuse)
    problem = problem_of("file", "/some/file")
    assert (problem.code, problem.why) == ("reference-unreadable", "Permission denied")


def test_a_file_that_cannot_be_a_credential(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 65_537)
    assert "64 KiB" in problem_of("file", str(path)).summary
    path.write_bytes(b"hunter2\xff")
    problem = problem_of("file", str(path))
    assert "UTF-8" in problem.summary
    assert "hunter2" not in str(problem)
    path.write_text(" \n")
    assert problem_of("file", str(path)).code == "reference-empty"


def test_no_file_stays_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        problem_of("file", str(tmp_path))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_an_environment_variable(monkeypatch):
    monkeypatch.setenv("ORDER_CREDENTIAL", "text")
    assert read_secret("env", ("ORDER_CREDENTIAL",)) == Secret("text")
    monkeypatch.setenv("ORDER_CREDENTIAL", " ")
    assert problem_of("env", "ORDER_CREDENTIAL").code == "reference-empty"
    monkeypatch.delenv("ORDER_CREDENTIAL")
    problem = problem_of("env", "ORDER_CREDENTIAL")
    assert problem.code == "reference-unset"
    assert "ORDER_CREDENTIAL" in problem.summary


def test_a_keyring_entry(tmp_path, use_keyring):
    backend = FolderKeyring()
    backend.folder = tmp_path
    use_keyring(backend)
    keyring.set_password("skyflow", "order", "text")
    assert read_secret("keyring", ("skyflow", "order")) == Secret("text")
    problem = problem_of("keyring", "skyflow", "payment")
    assert problem.code == "reference-missing"
    assert "FolderKeyring" in problem.why


def test_a_locked_keyring_names_its_backend_and_quotes_nothing(use_keyring):
    use_keyring(LockedKeyring())
    problem = problem_of("keyring", "skyflow", "order")
    assert problem.code == "keyring-unavailable"
    assert "LockedKeyring" in problem.why
    assert "hunter2" not in str(problem)


class HangingKeyring(KeyringBackend):
    """Waits for a password in a window that nobody sees."""

    priority = 5
    going_on = threading.Event()

    def get_password(self, service: str, username: str) -> None:
        self.going_on.wait(60)

    def set_password(self, service: str, username: str, password: str) -> None:
        self.going_on.wait(60)


def test_a_keyring_that_hangs_is_given_up(use_keyring, monkeypatch):
    monkeypatch.setattr(keyring_scheme, "_SECONDS", 0.2)
    use_keyring(HangingKeyring())
    try:
        assert problem_of("keyring", "skyflow", "order").code == "keyring-timeout"
    finally:
        HangingKeyring.going_on.set()


def test_no_keyring_at_all(use_keyring):
    use_keyring(keyring.backends.fail.Keyring())
    problem = problem_of("keyring", "skyflow", "order")
    assert problem.code == "keyring-unavailable"
    assert "keyring.backends.fail.Keyring" in problem.why


@pytest.mark.parametrize("backend", ["nowhere.Keyring", "keyring.backends.null.None"])
def test_a_backend_that_does_not_exist(backend):
    code = (
        "from skyflowctl.credentials.schemes import keyring\n"
        "from skyflowctl.credentials.errors import UnresolvedReferenceError\n"
        "try: keyring.read('s', 'u')\n"
        "except UnresolvedReferenceError as error: print(error.problems[0].code)\n"
    )
    environment = {**os.environ, "PYTHON_KEYRING_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "keyring-unavailable\n", done.stderr


def test_keyring_is_loaded_only_for_its_own_scheme():
    code = (
        "import sys; from skyflowctl.credentials.resolve import ReferenceResolver; "
        "from skyflowctl.manifest.model import Reference; from skyflowctl.errors import Where; "
        "ReferenceResolver().resolve(Reference('env', ('HOME',), 'env: HOME', Where()), 'home'); "
        "print('keyring' in sys.modules)"
    )
    environment = {**os.environ, "HOME": "/"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "False\n", done.stderr


def test_modes_wider_than_the_owners(tmp_path):
    path = tmp_path / "a"
    path.touch()
    path.chmod(0o600)
    assert exposure.wider_than_owner(str(path)) == ""
    path.chmod(0o400)
    assert exposure.wider_than_owner(str(path)) == ""
    path.chmod(0o640)
    assert exposure.wider_than_owner(str(path)) == "0640"
    assert exposure.wider_than_owner(str(tmp_path / "none")) == ""


@pytest.mark.needs("git")
def test_files_that_git_would_take(tmp_path):
    tree = tmp_path / "tree"
    (tree / "credentials").mkdir(parents=True)
    (tree / ".gitignore").write_text("credentials/\n")
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    ignored, seen = tree / "credentials" / "a.json", tree / "b.json"
    outside = tmp_path / "c.json"
    for path in (ignored, seen, outside):
        path.touch()
    paths = [str(path) for path in (ignored, seen, outside)]
    assert exposure.in_version_control(paths) == {str(seen)}


def test_a_folder_that_only_looks_like_a_work_tree(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "a").touch()
    assert exposure.in_version_control([str(tmp_path / "a")]) == frozenset()
