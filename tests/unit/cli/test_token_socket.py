"""The socket of ``exec --serve``: who is answered, and what."""

from __future__ import annotations

import os
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest

from skyflowctl.cli.commands.exec import token_socket
from skyflowctl.clock import SystemClock, rfc3339
from skyflowctl.errors import UsageError
from skyflowctl.operations.keep_token import TokenKeeper
from skyflowctl.secret import Secret
from skyflowctl.vault.responses import Creds


def keeper(seconds: float) -> TokenKeeper:
    ends = rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))
    return TokenKeeper(lambda: Creds(Secret("tok"), "Bearer", ends, 0, "k", 1, "r"), SystemClock())


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "run"
    return token_socket.socket_path(f"unix:{folder}/s")


def answer(path) -> bytes:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(str(path))
        try:
            link.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: link.recv(4096), b""))
        except ConnectionError:
            return b""


def ask(path, seconds: float) -> bytes:
    with token_socket.listening(path) as server:
        server.keeper = keeper(seconds)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            return answer(path)
        finally:
            server.shutdown()
            thread.join()


def test_the_same_user_is_answered_and_the_path_is_removed(path):
    told = ask(path, 600)
    assert told.startswith(b"HTTP/1.0 200 ")
    assert b'"access_token": "tok"' in told
    assert b"Cache-Control: no-store" in told
    assert not path.exists()


def test_another_user_gets_no_answer(path, monkeypatch):
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert ask(path, 600) == b""


def test_a_token_that_has_ended_is_not_handed_out(path):
    told = ask(path, -5)
    assert told.startswith(b"HTTP/1.0 503 ")
    assert b'tok"' not in told


def test_a_client_that_sends_garbage_or_nothing_ends_nothing(path):
    with token_socket.listening(path) as server:
        server.keeper = keeper(600)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            for sent in (b"", b"\x00" * 5000 + b"\r\n\r\n", b"DELETE / HTTP/1.1\r\n\r\n"):
                with socket.socket(socket.AF_UNIX) as link:
                    link.connect(str(path))
                    link.sendall(sent)
            assert b"200" in answer(path).split(b"\r\n")[0]
        finally:
            server.shutdown()
            thread.join()


def test_a_socket_that_a_killed_process_left_is_replaced_and_a_live_one_is_not(path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
        with pytest.raises(UsageError):
            token_socket.socket_path(f"unix:{path}")
    assert path.exists()
    assert token_socket.socket_path(f"unix:{path}") == path
    assert not path.exists()


def test_a_link_to_a_folder_and_an_existing_file_are_refused(tmp_path):
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "own")
    (tmp_path / "own" / "there").write_text("x")
    for text in ("link/s", "own/there", "none/at/all"):
        with pytest.raises(UsageError):
            token_socket.socket_path(f"unix:{tmp_path}/{text}")
    assert (tmp_path / "own" / "there").read_text() == "x"


@pytest.mark.parametrize("text", ["unix:", "unix:run/", "run/s"])
def test_what_names_no_socket_is_refused_as_that(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"unix:|run/s") as raised:
        token_socket.socket_path(text)
    assert raised.value.problems[0].why == "it is not unix: and a path"
