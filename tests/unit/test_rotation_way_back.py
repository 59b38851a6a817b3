"""The way back is always open: to a credential that can do less, and with its key left alone."""

from __future__ import annotations

import pytest
from support.rotating import PATH, A, B, quick_keys, rig  # noqa: F401 - a fixture

from skyflowctl.errors import ExitCode
from skyflowctl.rotation import settle
from skyflowctl.rotation.model import Job, Word
from skyflowctl.rotation.nodes import NodeDisagrees
from skyflowctl.rotation.rollback import rollback_mount

pytestmark = pytest.mark.usefixtures("quick_keys")


def codes(problems):
    return [one.code for one in problems]


def back(made, wanted=None, **more):
    return rollback_mount(Job("order", PATH), wanted, made.world(run_id="back", **more))


def test_a_failed_rotation_goes_back_to_a_key_with_fewer_roles(monkeypatch):
    def bad(*_):
        raise NodeDisagrees("a standby does not prove it", why="its network", fix="mend it")

    monkeypatch.setattr(settle, "_prove_nodes", bad)
    with rig(A) as made:
        made.gateway.write_role(PATH, "extra", {"role_ids": [B]})
        new = made.successor(A, B, clientID="b" * 32)
        outcome = made.rotate(lambda: new, allow_different_account=True)
        assert (outcome.result, outcome.exit_code) == (Word.ROLLED_BACK, ExitCode.PARTIAL)
        assert codes(outcome.problems)[0] == "node-disagrees"
        assert codes(outcome.warnings) == ["role-left-behind"]
        assert "[role extra]" in outcome.warnings[0].why
        assert made.serves() == made.old


def test_a_person_goes_back_to_a_key_with_fewer_roles():
    with rig(A) as made:
        new = made.successor(A, B, clientID="b" * 32)
        assert made.rotate(lambda: new, allow_different_account=True).result is Word.ROTATED
        made.gateway.write_role(PATH, "extra", {"role_ids": [B]})
        outcome = back(made)
        assert (outcome.result, outcome.exit_code) == (Word.ROLLED_BACK, ExitCode.OK)
        assert codes(outcome.warnings) == ["role-left-behind"]
        assert made.serves() == made.old
