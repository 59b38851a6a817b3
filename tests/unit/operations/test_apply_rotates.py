"""apply replaces a live credential by a rotation: proved, committed, rolled back, resumed."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta

import pytest
from support import planning as p
from support.keys import credential

from skyflowctl.clock import SystemClock
from skyflowctl.credentials.model import Credential, CredentialId
from skyflowctl.engine.settings import EngineSettings
from skyflowctl.errors import ExitCode
from skyflowctl.manifest.model import DeclaredCtx
from skyflowctl.operations.apply import apply
from skyflowctl.operations.dry_run.run import dry_run
from skyflowctl.operations.plan import plan
from skyflowctl.operations.replace_credential import DECLARED, RotatingReplacer
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import InProcessTokenService
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.memory_transport import MemoryTransport

WHAT = p.manifest(
    p.mount(
        roles=(
            p.role("writer", role_id="r-write", ctx=DeclaredCtx()),
            p.role("reader", role_id="r-read", ctx=DeclaredCtx()),
        )
    )
)
OTHER_WORDS = dataclasses.replace(
    WHAT, mounts=(dataclasses.replace(WHAT.mounts[0], description="other words"),)
)
PATH = "skyflow/order"


def no_wait(seconds):
    """There is one node, and its answers are never old."""


class Killed(BaseException):
    """The process ends: nothing catches this."""


class Line:
    """A transport that a test can cut: ``before`` and ``after`` may raise at a request."""

    def __init__(self, inner):
        self._inner = inner
        self.before = lambda method, path, body: None
        self.after = lambda method, path, body: None

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def send(self, request):
        told = (request.method, request.path, request.body or {})
        self.before(*told)
        reply = self._inner.send(request)
        self.after(*told)
        return reply


class Source:
    """Gives the credential that the manifest's reference leads to at present."""

    def __init__(self, text):
        self.text = text

    def identify(self, mount, live):
        return self.resolve(mount).id

    def resolve(self, mount):
        return Credential(self.identity, self.text)

    def prepare_apply(self):
        pass

    @property
    def identity(self):
        one = load_trusted(self.text.reveal())
        return CredentialId(one.client_id, one.key_id)


class Site:
    """A server in this process that has the first credential of an account."""

    def __init__(self):
        self.service = InProcessTokenService()
        self.line = Line(MemoryTransport(self.service, EngineSettings()))
        self.gateway = Gateway(self.line)
        self.first = self.credential()
        assert self.apply(self.first).exit_code is ExitCode.OK

    def credential(self, *, roles=("r-write", "r-read"), **fields):
        text = json.dumps(credential(**fields))
        self.service.trust(load_trusted(text), roles)
        return Source(Secret(text))

    def plan(self, source, what=WHAT):
        return plan(what, self.gateway, source).plan

    def apply(self, source, what=WHAT, run_id="run-1"):
        def world(gateway):
            return Dependencies(
                gateway=gateway, connect=None, clock=SystemClock(), run_id=run_id, sleep=no_wait
            )

        now = dataclasses.replace(DECLARED, stale_after=timedelta())
        return apply(
            plan(what, self.gateway, source), self.gateway, source, RotatingReplacer(world, now)
        )

    @property
    def live(self):
        return self.gateway.engine(PATH).config()

    def history(self):
        return [one.key_id for one in self.gateway.engine(PATH).history().values()]

    def mints_with(self):
        return {self.gateway.engine(PATH).creds(role).key_id for role in ("writer", "reader")}


@pytest.fixture
def site():
    made = Site()
    yield made
    made.gateway.close()


def test_a_new_key_is_a_rotation_of_this_run_and_committed(site):
    new = site.credential()
    done = site.apply(new, run_id="run-7")
    assert (done.exit_code, done.problems) == (ExitCode.OK, ())
    assert site.live.key_id == new.identity.key_id
    rotation = site.live.rotation
    assert (rotation.id, rotation.state) == ("run-7", "committed")
    assert (rotation.from_key, rotation.to_key) == (site.first.identity.key_id, site.live.key_id)
    assert site.plan(new).empty
    [told] = [one for one in done.warnings if one.code == "old-key-valid"]
    assert rotation.old_tokens_valid_until in told.why
    assert told.fix.endswith("'skyflowctl rotate --retire order'")


def test_the_candidate_is_tried_before_anything_is_written(site):
    asked = []
    site.line.before = lambda method, path, body: asked.append((method, path, sorted(body)))
    site.apply(site.credential())
    posts = [(path, body) for method, path, body in asked if method == "POST"]
    tried = (f"{PATH}/config/verify", ["credentials_json"])
    written = (f"{PATH}/config", ["cas", "credentials_json", "rotation_id"])
    assert posts.index(tried) < posts.index(written)
    assert (f"{PATH}/config/verify", []) in posts[posts.index(written) :]


def test_another_account_is_what_the_manifest_says_and_so_allowed(site):
    new = site.credential(clientID="f" * 32)
    assert site.apply(new).exit_code is ExitCode.OK
    assert site.live.client_id == "f" * 32


def test_one_that_lacks_a_role_is_refused_and_nothing_is_written(site):
    before = site.live
    weak = site.credential(roles=("r-read",), clientID="f" * 32)
    done = site.apply(weak)
    assert done.exit_code is ExitCode.REFUSED
    assert "writer" in done.problems[0].summary
    assert site.live == before


def test_what_fails_after_the_write_is_rolled_back(site):
    new, wrote = site.credential(), []

    def cut(method, path, body):
        if path == f"{PATH}/config" and "credentials_json" in body:
            wrote.append(path)
        if wrote and path == f"{PATH}/config/verify" and site.live.key_id != old:
            raise error_for(404, ("unsupported path",), method=method, path=path)

    old = site.live.key_id
    site.line.before = cut
    done = site.apply(new)
    site.line.before = lambda method, path, body: None
    assert done.exit_code is ExitCode.PARTIAL
    assert site.live.key_id == old
    assert site.mints_with() == {old}
    warned = site.plan(new)
    assert warned.empty
    assert [one.code for one in warned.warnings] == ["rotated-past"]


@pytest.mark.parametrize("edge", ["before", "after"])
def test_killed_at_any_request_the_same_command_finishes(edge):
    number = 0
    while True:
        number += 1
        site = Site()
        new = site.credential()
        killed = killed_at(site, new, number, edge)
        assert site.mints_with() <= {site.first.identity.key_id, new.identity.key_id}
        if killed:
            assert site.apply(new, OTHER_WORDS, "run-2").exit_code is ExitCode.OK
        assert site.mints_with() == {new.identity.key_id}
        assert site.plan(new, OTHER_WORDS).empty
        assert site.plan(new, OTHER_WORDS).warnings == ()
        assert site.history() == [site.first.identity.key_id, new.identity.key_id]
        assert (site.live.rotation.state, site.live.description) == ("committed", "other words")
        site.gateway.close()
        if not killed:
            break
    assert number > 12


def killed_at(site, new, number, edge):
    """Apply, killed at its n-th request; False: it had fewer."""
    made = [0]

    def count(method, path, body):
        made[0] += 1
        if made[0] == number:
            raise Killed

    setattr(site.line, edge, count)
    try:
        done = site.apply(new, OTHER_WORDS)
    except Killed:
        return True
    finally:
        setattr(site.line, edge, lambda method, path, body: None)
    assert done.exit_code is ExitCode.OK
    return False


def test_a_rotation_to_another_key_is_ended_first(site):
    theirs, ours = site.credential(), site.credential()
    site.gateway.engine(PATH).write_config(
        {"credentials_json": theirs.text, "rotation_id": "theirs"}
    )
    done = site.apply(ours)
    assert done.exit_code is ExitCode.OK
    assert "resumed-rotation" in {one.code for one in done.warnings}
    assert site.live.key_id == ours.identity.key_id
    assert site.live.rotation.from_key == theirs.identity.key_id


def test_a_rotation_that_somebody_finished_meanwhile_is_no_failure(site):
    new = site.credential()
    site.gateway.engine(PATH).write_config({"credentials_json": new.text, "rotation_id": "half"})
    made = plan(WHAT, site.gateway, new)
    assert [one.action.value for one in made.plan.actions] == ["replace_credential"]
    site.gateway.engine(PATH).commit("half")

    def world(gateway):
        raise AssertionError("nothing is left to do")

    finish = RotatingReplacer(world).finish
    assert finish("order", PATH, site.gateway) == ()


def test_a_dry_run_rehearses_the_rotation_and_finishes_an_open_one(site):
    new = site.credential()
    rehearsed = dry_run(WHAT, new, site.gateway)
    assert (rehearsed.exit_code, rehearsed.left) == (ExitCode.OK, 0)
    assert site.live.key_id == site.first.identity.key_id
    site.gateway.engine(PATH).write_config({"credentials_json": new.text, "rotation_id": "half"})
    rehearsed = dry_run(WHAT, new, site.gateway)
    assert [one.action.action.value for one in rehearsed.outcome.results] == ["replace_credential"]
    assert (rehearsed.exit_code, rehearsed.left) == (ExitCode.OK, 0)
    assert site.live.rotation.state == "open"
