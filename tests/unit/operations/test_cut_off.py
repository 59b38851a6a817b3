"""A mount that was cut off, on the in-process server with the real engine."""

from __future__ import annotations

import pytest
from support import planning as p
from support.fake_server import FakeReplacer
from support.gateways import memory_rig

from skyflowctl.credentials.model import Credential, CredentialId
from skyflowctl.errors import RefusedError
from skyflowctl.manifest.model import DeclaredCtx
from skyflowctl.operations.apply import apply
from skyflowctl.operations.plan import plan
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.vault.transport import Request

WHAT = p.manifest(p.mount(roles=(p.role("writer", role_id="r-read", ctx=DeclaredCtx()),)))


class Source:
    """Gives the credential that the manifest's reference leads to at present."""

    def __init__(self, text):
        self.text = text

    def identify(self, mount, live):
        return self.resolve(mount).id

    def resolve(self, mount):
        one = load_trusted(self.text.reveal())
        return Credential(CredentialId(one.client_id, one.key_id), self.text)

    def prepare_apply(self):
        pass


@pytest.fixture
def rig():
    rig = memory_rig()
    yield rig
    rig.gateway.close()


def test_apply_leaves_it_so_until_it_is_told_to(rig):
    gateway, source = rig.gateway, Source(rig.new_credential())
    assert apply(plan(WHAT, gateway, source), gateway, source, FakeReplacer()).exit_code == 0
    gateway.transport.send(Request("DELETE", "skyflow/order/config", idempotent=True))

    for options in (None, p.replacing("order")):
        made = plan(WHAT, gateway, source, options)
        assert (made.plan.empty, made.plan.clean) == (True, False)
        with pytest.raises(RefusedError):
            apply(made, gateway, source, FakeReplacer())
        assert not gateway.engine("skyflow/order").config().configured

    key = source.resolve("order").id.key_id
    told = plan(WHAT, gateway, source, p.replacing(allow=(key,)))
    assert apply(told, gateway, source, FakeReplacer()).exit_code == 0
    assert gateway.engine("skyflow/order").config().key_id == source.resolve("order").id.key_id

    gateway.transport.send(Request("DELETE", "skyflow/order/config", idempotent=True))
    newer = Source(rig.new_credential())
    assert plan(WHAT, gateway, newer).plan.empty
    told = plan(WHAT, gateway, newer, p.replacing("order"))
    assert apply(told, gateway, newer, FakeReplacer()).exit_code == 0
    assert gateway.engine("skyflow/order").config().credential_version == 3
    assert plan(WHAT, gateway, newer).plan.empty
