"""Rotation on an engine with the basic API: no history, no check-and-set, no verification."""

from __future__ import annotations

import pytest
from support.rotating import PATH, A, B, Requests, quick_keys, rig  # noqa: F401 - a fixture

from skyflowctl.errors import ExitCode
from skyflowctl.rotation.model import Options, Result, RotationJob
from skyflowctl.rotation.rollback import rollback_mount
from skyflowctl.rotation.rotate import preview_mount, rotate_mount
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.transport import Reply

pytestmark = pytest.mark.usefixtures("quick_keys")
LACKING = ("config/history", "config/verify", "config/commit", "config/rollback")
UNKNOWN_FIELDS = {"cas", "rotation_id", "rotation_to", "rotation_keys"}
TOLD = {"credentials_configured", "credentials_type", "client_id", "key_id", "description"}


class BasicEngine(Requests):
    """Our engine with everything taken away that the basic API does not have."""

    def __init__(self, inner, told=frozenset(TOLD)):
        super().__init__(inner)
        self.told = told

    def send(self, request):
        method, path = request.method, request.path
        if path.startswith(tuple(f"{PATH}/{name}" for name in LACKING)):
            raise error_for(404, ("unsupported path",), method=method, path=path)
        assert not UNKNOWN_FIELDS & set(request.body or {})
        reply = super().send(request)
        if (method, path) == ("GET", f"{PATH}/config"):
            return Reply(200, {key: reply.data[key] for key in reply.data if key in self.told})
        return reply


def world(made, transport=None, **more):
    local = {"token_service": made.tokens, **more}
    return made.dependencies(transport or BasicEngine(made.server), **local)


def previous_of(made):
    """The credential that is live, as its owner has it."""
    live = made.successor(keyID=made.old)
    return lambda: live


def job(made, *, previous=True, **options):
    return RotationJob("order", PATH, Options(**options), previous_of(made) if previous else None)


def test_it_is_refused_without_a_way_back():
    with rig() as made:
        new = made.successor()
        outcome = rotate_mount(job(made, previous=False), lambda: new, world(made))
        assert (outcome.result, outcome.exit_code) == (Result.REFUSED, ExitCode.REFUSED)
        assert outcome.problems[0].code == "no-way-back"
        assert made.serves() == made.old


@pytest.mark.parametrize("told", [TOLD, TOLD - {"client_id", "key_id"}])
@pytest.mark.parametrize("way", [{}, {"previous": False, "no_rollback": True}])
@pytest.mark.parametrize("local", [True, False])
def test_it_rotates(told, way, local):
    with rig(A, B) as made:
        new, transport = made.successor(), BasicEngine(made.server, told)
        more = {} if local else {"token_service": None}
        outcome = rotate_mount(job(made, **way), lambda: new, world(made, transport, **more))
        assert (outcome.result, outcome.exit_code) == (Result.ROTATED, ExitCode.OK), outcome
        assert made.serves() == new.key_id
        steps = [step.name.value for step in outcome.steps]
        assert steps.count("prove") == local + (way == {})
        # What is live is read from its own tokens where the engine does not tell.
        assert outcome.from_key == made.old


def test_a_preview_writes_nothing():
    with rig() as made:
        new, before = made.successor(), made.config()
        outcome = preview_mount(job(made), lambda: new, world(made))
        assert outcome.result is Result.WOULD_ROTATE
        assert made.config() == before


@pytest.mark.parametrize("local", [True, False])
def test_a_credential_that_lacks_every_role_is_never_made_live(local):
    with rig(A) as made:
        new = made.successor(B, clientID="a" * 32)
        more = {} if local else {"token_service": None}
        outcome = rotate_mount(
            job(made, allow_different_account=True), lambda: new, world(made, **more)
        )
        assert (outcome.result, outcome.exit_code) == (Result.REFUSED, ExitCode.REFUSED)
        assert made.serves() == made.old


def test_what_is_live_and_what_is_not_the_way_back():
    with rig() as made:
        live, new, other = previous_of(made)(), made.successor(), made.successor()
        outcome = rotate_mount(job(made), lambda: live, world(made))
        assert outcome.problems[0].code == "unchanged-credential"
        wrong = RotationJob("order", PATH, Options(), lambda: other)
        assert rotate_mount(wrong, lambda: new, world(made)).problems[0].code == "wrong-previous"
        assert made.serves() == made.old


def untold():
    """An engine that keeps the identity of its credential to itself, as the Go plugin does."""
    return TOLD - {"client_id", "key_id"}


def test_a_wrong_previous_is_found_by_the_live_tokens_before_anything_is_written():
    with rig(A, B) as made:
        transport, new, other = BasicEngine(made.server, untold()), made.successor(), None
        other = made.successor()
        wrong = RotationJob("order", PATH, Options(), lambda: other)
        outcome = rotate_mount(wrong, lambda: new, world(made, transport))
        assert outcome.result is Result.REFUSED
        assert outcome.problems[0].code == "wrong-previous"
        assert made.old in outcome.problems[0].why
        assert not [one for one in transport.seen if one[0] == "POST"]


def test_a_previous_that_does_not_mint_is_refused_before_anything_is_written():
    with rig(A, B) as made:
        transport, new = BasicEngine(made.server, untold()), made.successor()
        broken = made.successor(keyID=made.old, key="second")  # another private key
        restored = made.successor(keyID=made.old)
        transport.before = lambda *_: None
        assert restored.key_id == broken.key_id
        wrong = RotationJob("order", PATH, Options(), lambda: broken)
        outcome = rotate_mount(wrong, lambda: new, world(made, transport))
        assert outcome.problems[0].code == "previous-does-not-mint"
        assert made.serves() == made.old


def test_a_live_credential_that_gives_no_token_is_no_proved_way_back():
    with rig(A) as made:
        previous, new = previous_of(made), made.successor()
        made.state.delete_key(made.client, made.old)
        transport = BasicEngine(made.server, untold())
        one = RotationJob("order", PATH, Options(), previous)
        outcome = rotate_mount(one, lambda: new, world(made, transport))
        assert outcome.problems[0].code == "live-gives-no-token"
        without = RotationJob("order", PATH, Options(no_rollback=True))
        outcome = rotate_mount(without, lambda: new, world(made, transport))
        assert outcome.result is Result.ROTATED
        assert outcome.from_key == ""


def test_a_role_that_the_live_credential_does_not_mint_either_is_a_warning():
    with rig(A) as made:
        made.gateway.engine(PATH).write_role("r2", {"role_ids": ["never-granted"]})
        transport, new = BasicEngine(made.server, untold()), made.successor()
        outcome = rotate_mount(job(made), lambda: new, world(made, transport))
        assert outcome.result is Result.ROTATED
        assert "role-mints-with-neither" in [one.code for one in outcome.warnings]


def test_no_key_is_created_and_nothing_is_rolled_back():
    with rig() as made:
        outcome = rotate_mount(job(made), made.generated(), world(made))
        assert outcome.problems[0].code == "cannot-generate"
        assert made.keys.calls == []
        outcome = rollback_mount(job(made), None, world(made))
        assert outcome.problems[0].code == "no-history"


@pytest.mark.parametrize("previous", [True, False])
def test_a_failure_after_the_write(previous):
    with rig() as made:
        new, transport = made.successor(), BasicEngine(made.server)

        def before(number, method, path):
            if path.endswith("/health") and made.config().key_id == new.key_id:
                raise error_for(500, ("internal error",), method=method, path=path)

        transport.before = before
        outcome = rotate_mount(
            job(made, previous=previous, no_rollback=not previous),
            lambda: new,
            world(made, transport),
        )
        assert outcome.exit_code is ExitCode.PARTIAL
        if previous:
            assert outcome.result is Result.ROLLED_BACK
            assert made.serves() == made.old == outcome.live_key_id
        else:
            assert (outcome.result, outcome.problems[0].code) == (Result.FAILED, "left-live")
            assert made.serves() == new.key_id == outcome.live_key_id
