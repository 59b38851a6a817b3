"""A server in this process that commands reach, and the manifest that they read."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest

from skyflowctl.cli.context import credential_sources, gateways
from skyflowctl.vault.gateway import Gateway
from support.fake_server import FakeCredentials, FakeServer

MANIFEST = """version: 1
manifest: shop
mounts:
  order:
    credentials: {env: ORDER_KEY}
    roles:
      writer: {role_ids: [skyflow-writer]}
  pay:
    credentials: {env: PAY_KEY}
    roles:
      reader: {role_ids: [skyflow-reader]}
"""


def reach_gateway(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every command of the test use this gateway, whichever server it names."""

    @contextmanager
    def opened(*_):
        yield gateway

    monkeypatch.setattr(gateways, "open_gateway", opened)


def reached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """Return a server that every command of the test reaches; the manifest is in the folder."""
    server = FakeServer()

    @contextmanager
    def opened(*_):
        yield Gateway(server)

    monkeypatch.chdir(folder)
    monkeypatch.setattr(gateways, "open_gateway", opened)
    monkeypatch.setattr(gateways, "server_is_named", lambda _: True)
    monkeypatch.setattr(credential_sources, "credentials_for", lambda *_: FakeCredentials())
    (folder / "mounts.yaml").write_text(MANIFEST)
    return server
