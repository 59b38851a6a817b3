"""apply told to stop in the middle of its writes: what was left is said, once."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager

import pytest
from support.cli import checked_envelope, invoke
from support.fake_server import FakeCredentials, FakeServer

from skyflowctl.cli.commands.apply.progress import Shown
from skyflowctl.cli.context import credential_sources, gateways
from skyflowctl.vault.gateway import Gateway

MANIFEST = """version: 1
manifest: shop
mounts:
  order:
    credentials: {env: ORDER_KEY}
    roles:
      writer: {role_ids: [skyflow-writer]}
"""


@pytest.fixture
def signalled(tmp_path, monkeypatch):
    """Return how to have a signal arrive while the first mount is being written."""
    server, handled = FakeServer(), threading.Event()
    said = Shown.stopping

    def stopping(self):
        said(self)
        handled.set()

    @contextmanager
    def opened(*_):
        yield Gateway(server)

    monkeypatch.setattr(Shown, "stopping", stopping)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gateways, "open_gateway", opened)
    monkeypatch.setattr(credential_sources, "credentials_for", lambda *_: FakeCredentials())
    (tmp_path / "mounts.yaml").write_text(MANIFEST)

    def arrange(number):
        def after(method, path):
            if (method, path) == ("POST", "sys/mounts/skyflow/order") and not handled.is_set():
                os.kill(os.getpid(), number)
                assert handled.wait(20)

        server.after = after

    return arrange


SIGNALS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]


@pytest.mark.parametrize(("number", "code", "word"), SIGNALS)
def test_json_names_the_signal_and_what_is_left(signalled, number, code, word):
    signalled(number)
    done = invoke("apply", "-y", "-p", "1", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["status"]) == (code, "partial")
    (problem,) = whole["errors"]
    assert problem["code"] == word
    assert "2 changes" in problem["summary"]
    assert problem["why"]
    assert "run the same command again" in problem["fix"]


def test_people_are_told_what_happens_now_and_each_left_object_once(signalled):
    signalled(signal.SIGINT)
    done = invoke("apply", "-y", "-p", "1")
    assert done.exit_code == 130
    assert "finishing 1 request; Ctrl-C again stops at once" in done.stderr
    assert "error: the apply was stopped: 2 changes not begun" in done.stderr
    _, _, after_plan = done.stderr.partition("finishing")
    told = done.stdout + after_plan
    assert told.count("skyflow/order/config") == 1
    assert told.count("skyflow/order/roles/writer") == 1
