"""Every apply tries every role that it names, on a real server with a real token service."""

from __future__ import annotations

import dataclasses
import secrets

import pytest
from support import planning as p
from support.emulator import running_emulator
from support.fake_server import FakeReplacer
from support.gateways import ROLE_IDS, real_rig
from support.plugin import copy_source

from skyflowctl.credentials.model import Credential, CredentialId
from skyflowctl.errors import ExitCode
from skyflowctl.operations.apply import apply
from skyflowctl.operations.plan import plan
from skyflowctl.secret import Secret
from skyflowctl.skyflow.service_account import load_trusted

pytestmark = pytest.mark.real_server


class Source:
    """One credential for each mount."""

    def __init__(self, texts: dict[str, Secret]) -> None:
        self.texts = texts

    def identify(self, mount, live):
        return self.resolve(mount).id

    def resolve(self, mount):
        text = self.texts[mount]
        one = load_trusted(text.reveal())
        return Credential(CredentialId(one.client_id, one.key_id), text)

    def prepare_apply(self):
        pass


def manifest(*role_ids: str):
    roles = tuple(p.role(f"r{n}", role_id=one) for n, one in enumerate(role_ids))
    name = secrets.token_hex(3)
    return p.manifest(p.mount(f"m{name}", path=f"verifies/{name}", roles=roles))


def test_a_role_that_does_not_mint_is_3_until_it_does(bao, tmp_path):
    with running_emulator() as emulator:
        rig = real_rig(bao, emulator, copy_source(tmp_path))
        try:
            what = manifest(ROLE_IDS[0], "the-account-lacks-it")
            source = Source({what.mounts[0].name: rig.new_credential()})

            def run(wanted, **more):
                planned = plan(wanted, rig.gateway, source)
                return apply(planned, rig.gateway, source, FakeReplacer(), **more)

            role = f"{what.mounts[0].path}/roles/r1"
            for again in (False, True):
                done = run(what)
                assert bool(done.outcome.results) is not again
                assert (done.status, done.exit_code) == ("partial", ExitCode.PARTIAL)
                (problem,) = done.problems
                assert (problem.code, role in problem.summary) == ("role-refused", True)
                assert [one.result for one in done.verified] == ["ok", "refused"]

            mount = what.mounts[0]
            mended = (mount.roles[0], dataclasses.replace(mount.roles[1], role_id=ROLE_IDS[1]))
            what = dataclasses.replace(what, mounts=(dataclasses.replace(mount, roles=mended),))
            assert run(what).exit_code is ExitCode.OK

            emulator.stop()
            done = run(what)
            assert (done.status, done.exit_code) == ("ok", ExitCode.OK)
            assert [one.code for one in done.warnings] == ["unproven", "unproven"]
            strict = run(what, require_verified=True)
            assert (strict.status, strict.exit_code) == ("partial", ExitCode.PARTIAL)
            assert [one.code for one in strict.problems] == ["unproven", "unproven"]
        finally:
            rig.gateway.close()
