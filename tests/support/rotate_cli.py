"""``rotate`` from the command line on, against the real engine in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from skyflowctl.cli.context import rotation
from skyflowctl.clock import SystemClock
from skyflowctl.credentials.lint import CredentialLinter
from skyflowctl.credentials.model import Credential, CredentialId
from skyflowctl.operations.rotate.key_provider import key_provider
from skyflowctl.rotation.model import KeyInfo
from skyflowctl.secret import Secret
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS
from support.gateways import ROLE_IDS, Rig, identity
from support.keys import credential_text
from support.reached import reach_gateway

MANIFEST = """version: 1
manifest: shop
defaults: {path_prefix: contract, rotation: {max_age: 90d}}
mounts:
  %s:
    path: %s
    credentials: {file: key.json}
    roles: {reader: {role_ids: [r-read]}}
"""


def further_key(rig: Rig, client_id: str) -> Secret:
    """A credential of an account that has others; it mints."""
    text = credential_text(clientID=client_id)
    rig.transport._token_service.trust(load_trusted(text), ROLE_IDS)
    return Secret(text)


class FakeSkyflow:
    """Skyflow's keys: what it creates mints, what is deleted is remembered."""

    def __init__(self, rig):
        self.rig = rig
        self.created, self.deleted = [], []
        self.error = None

    def usable(self):
        if self.error:
            raise self.error
        return self

    def list_keys(self, client_id):
        return tuple(KeyInfo(key) for key in self.created)

    def create_key(self, client_id):
        text = further_key(self.rig, client_id)
        self.created.append(identity(text)[1])
        return Credential(CredentialId(*identity(text)), text)

    def delete_key(self, client_id, key_id):
        self.deleted.append(key_id)


def reach(rig: Rig, monkeypatch, folder) -> FakeSkyflow:
    """Have every command reach the server in memory; its operator is the fake."""
    skyflow = FakeSkyflow(rig)

    def provider(gateway, manifest, request, run, allow_hosts, *, resolver):
        linter = CredentialLinter(SKYFLOW_HOSTS, SystemClock())
        made = key_provider(request, manifest, linter, resolver)
        made = replace(made, margin=timedelta(seconds=0))
        if request.operator_token is None:
            return made
        return replace(made, operators=lambda target: skyflow.usable())

    reach_gateway(rig.gateway, monkeypatch)
    monkeypatch.setattr(rotation, "open_key_provider", provider)
    monkeypatch.setattr("skyflowctl.cli.commands.rotate.work.open_key_provider", provider)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setenv("X", "an operator's token")
    monkeypatch.chdir(folder)
    return skyflow
