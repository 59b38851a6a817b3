"""The in-process server takes over a live state, and goes on from there."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest
from support.gateways import ROLE_IDS, Rig, memory_rig
from support.keys import credential

from skyflowctl.engine.settings import EngineSettings
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import InProcessTokenService
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.vault.errors import ConflictError, TokenServiceFailedError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig, LiveState
from skyflowctl.vault.memory_transport import MemoryTransport

# What a dry run has of its own: times, the answer's text, its process and its stand-in's key.
NOT_SEEDED = {"raw", "process", "last_updated", "credential_updated", "key_valid_after",
    "key_valid_before"}  # fmt: skip


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = memory_rig()
    yield made
    made.gateway.close()
    made.gateway.close()


def stand_in(config: LiveConfig) -> Secret:
    """A throw-away credential with the live one's identity."""
    fields = credential(clientID=config.client_id, keyID=config.key_id)
    return load_trusted(json.dumps(fields)).to_json()


@pytest.fixture
def live(rig: Rig) -> LiveState:
    """A state with a configured mount at version 3, an empty one and a foreign one."""
    path = "skyflow/order"
    rig.gateway.sys.enable_mount(path, {"type": rig.plugin, "options": {"manifest": "shop"}})
    rig.gateway.engine(path).write_role("reader", {"role_ids": [ROLE_IDS[0]], "tags": ["a:b"]})
    rig.gateway.engine(path).write_role(
        "writer", {"role_ids": [ROLE_IDS[1]], "ctx_pattern": "o:*", "ctx_probe": "o:p"}
    )
    rig.gateway.engine(path).write_config({"credentials_json": rig.new_credential()})
    rig.gateway.engine(path).write_config({"description": "orders"}, cas=1)
    rig.gateway.engine(path).write_config({"tags": ["t"]}, cas=2)
    rig.gateway.sys.enable_mount("skyflow/new", {"type": rig.plugin})
    rig.gateway.sys.enable_mount("kv", {"type": "kv", "description": "theirs"})
    rig.gateway.sys.put_audited_header("X-Skyflowctl-Run", hmac=False)
    return rig.gateway.read_live_state(["skyflow/order", "skyflow/new"], rig.plugin)


@pytest.fixture
def seeded(live: LiveState) -> Iterator[Gateway]:
    service = InProcessTokenService()

    def credential_for(path: str, config: LiveConfig) -> Secret:
        assert path == "skyflow/order"
        text = stand_in(config)
        service.trust(load_trusted(text.reveal()), ROLE_IDS)
        return text

    transport = MemoryTransport(service, EngineSettings())
    transport.seed(live, credential_for)
    gateway = Gateway(transport)
    yield gateway
    gateway.close()


def _undated(roles):
    """Without when each was made: the seeded ones are new."""
    return {name: replace(role, created="") for name, role in roles.items()}


def test_the_seeded_state_is_the_live_one(live: LiveState, seeded: Gateway):
    again = seeded.read_live_state(list(live.engines), "skyflow")
    assert again.mounts == live.mounts
    assert again.audited_headers == live.audited_headers
    for path, engine in live.engines.items():
        assert _undated(again.engines[path].roles) == _undated(engine.roles)
        ours, theirs = again.engines[path].config, engine.config
        for name in {field.name for field in fields(LiveConfig)} - NOT_SEEDED:
            assert getattr(ours, name) == getattr(theirs, name), name


def test_it_goes_on_with_the_live_versions(seeded: Gateway):
    with pytest.raises(ConflictError):
        seeded.engine("skyflow/order").write_config({"description": "x"}, cas=1)
    assert seeded.engine("skyflow/order").write_config({"description": "x"}, cas=3)["version"] == 4
    assert (
        seeded.engine("skyflow/order").write_role("reader", {"description": "y"}, cas=1)["version"]
        == 2
    )
    assert seeded.engine("skyflow/new").config().version == 0


def test_it_mints_with_the_stand_in(seeded: Gateway):
    assert seeded.engine("skyflow/order").verify().ok
    assert seeded.engine("skyflow/order").creds("writer", "o:1").access_token
    assert seeded.engine("skyflow/order").health().state == "ok"


def test_an_untrusted_credential_is_refused_as_by_the_real_service(seeded: Gateway):
    untrusted = load_trusted(json.dumps(credential())).to_json()
    with pytest.raises(TokenServiceFailedError) as caught:
        seeded.engine("skyflow/order").write_config({"credentials_json": untrusted}, cas=3)
    assert caught.value.refused
    assert seeded.engine("skyflow/order").config().version == 3


def test_it_opens_no_network_socket(rig: Rig, monkeypatch):
    def refuse(*_args: object) -> None:
        raise AssertionError("a socket was connected")

    for name in ("connect", "connect_ex", "bind", "listen"):
        monkeypatch.setattr(socket.socket, name, refuse)
    path = rig.configured("reader")
    assert rig.gateway.engine(path).creds("reader").access_token


def test_many_threads_may_ask(rig: Rig):
    path = rig.configured("reader")
    with ThreadPoolExecutor(16) as pool:
        creds = list(pool.map(lambda _: rig.gateway.engine(path).creds("reader"), range(64)))
    assert len({one.request_id for one in creds}) == 64


def test_nothing_shows_a_secret(rig: Rig):
    secret = rig.new_credential()
    key = json.loads(secret.reveal())["privateKey"][40:80]
    path = rig.mount()
    with pytest.raises(ConflictError) as caught:
        rig.gateway.engine(path).write_config({"credentials_json": secret}, cas=7)
    assert key not in f"{caught.value.problems}{caught.value.__dict__}"
    assert key not in repr(rig.transport)
