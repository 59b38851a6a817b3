"""The failure table of ARCHITECTURE.md: each row that a server in memory can show is provoked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.rotating import PATH, A, B, Requests, Rig, invalid, quick_keys, rig  # noqa: F401 - a fixture

import skyflowctl
from skyflowctl.errors import UnreachableError
from skyflowctl.rotation import commit
from skyflowctl.rotation.cluster import NodeDisagreesError
from skyflowctl.rotation.model import MountOutcome
from skyflowctl.vault.errors import OutcomeUnknownError

pytestmark = pytest.mark.usefixtures("quick_keys")
DOC = Path(__file__).parents[3] / "ARCHITECTURE.md"


def no_answer(path: str) -> OutcomeUnknownError:
    return OutcomeUnknownError("no answer", why="timed out", fix="ask again", path=path)


def failing(made: Rig, fails: Callable[[str, dict], bool], *, once: bool = False) -> Requests:
    """A transport whose requests get no answer where ``fails`` says so."""
    transport = Requests(made.server)

    def before(_number, _method, path):
        if fails(path, transport.seen[-1][2]):
            if once:
                transport.before = lambda *_: None
            raise no_answer(path)

    transport.before = before
    return transport


def is_write(path: str, body: dict) -> bool:
    return path == f"{PATH}/config" and "credentials_json" in body


def nothing_named(made):
    return made.rotate(None)


def server_silent(made):
    return made.rotate(made.successor, made.dependencies(failing(made, lambda *_: True)))


def live_already(made):
    text = made.successor()
    assert made.rotate(lambda: text).problems == ()
    made.old = text.key_id
    return made.rotate(lambda: text)


def earlier(made):
    new, old = made.successor(), made.old
    assert made.rotate(lambda: new).problems == ()
    made.old = new.key_id
    return made.rotate(lambda: made.successor(keyID=old))


def other_account(made):
    return made.rotate(lambda: made.successor(clientID="b" * 32))


def skyflow_silent(made):
    def before(what):
        if what == "create":
            raise UnreachableError("no answer", why="timed out", fix="ask again")

    made.keys.before = before
    return made.rotate(made.generated())


def fewer_roles(made):
    new = made.successor(B, clientID="b" * 32)
    return made.rotate(lambda: new, allow_different_account=True)


def changed_first(made):
    new, other, transport = made.successor(), made.successor(), Requests(made.server)

    def before(_number, _method, path):
        if is_write(path, transport.seen[-1][2]):
            transport.before = lambda *_: None
            made.gateway.engine(PATH).write_config({"credentials_json": other.json})

    transport.before = before
    return made.rotate(lambda: new, made.dependencies(transport))


def reply_lost(made):
    new = made.successor()
    return made.rotate(lambda: new, made.dependencies(failing(made, is_write, once=True)))


def blind_after_the_write(made):
    new, written = made.successor(), []

    def fails(path, body):
        written.extend([path] if is_write(path, body) else [])
        return bool(written) and not path.endswith("/health")

    return made.rotate(lambda: new, made.dependencies(failing(made, fails)))


def node_disagrees(made):
    def bad(*_):
        raise NodeDisagreesError("a standby does not prove it", why="its network", fix="mend it")

    new = made.successor()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "_verify_nodes", bad)
        return made.rotate(lambda: new)


def commit_silent(made):
    new = made.successor()
    transport = failing(made, lambda path, _: path.endswith("/commit"))
    return made.rotate(lambda: new, made.dependencies(transport))


def rollback_silent(made):
    def bad(*_):
        raise NodeDisagreesError("a standby does not prove it", why="its network", fix="mend it")

    new = made.successor()
    transport = failing(made, lambda path, _: path.endswith("/rollback"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "_verify_nodes", bad)
        return made.rotate(lambda: new, made.dependencies(transport))


def stopped(made):
    return made.rotate(made.successor, made.dependencies(stopping=lambda: True))


ROWS = [
    ("before `lint`", nothing_named, "no-new-credential", 5, "old"),
    ("`resume`", server_silent, "the server's error", 69, "old"),
    ("`lint`", live_already, "unchanged-credential", 5, "old"),
    ("`lint`", earlier, "earlier-credential", 5, "old"),
    ("`lint`", other_account, "different-account", 5, "old"),
    ("`lint`", lambda made: made.rotate(invalid), "the finding's code", 65, "old"),
    ("`create-key`", skyflow_silent, "Skyflow's error", 69, "old"),
    ("`prove`", fewer_roles, "role-lost", 5, "old"),
    ("`write`", changed_first, "config-changed", 5, "theirs"),
    ("`write`", reply_lost, "the server's error", 69, "old"),
    ("`write`", blind_after_the_write, "rotation-left-open", 69, "old or new"),
    ("`verify-nodes`", node_disagrees, "node-disagrees", 3, "old"),
    ("`commit`", commit_silent, "rotation-left-open", 3, "new"),
    ("`rollback`", rollback_silent, "rotation-left-open", 3, "new"),
    ("any, before `write`", stopped, "stopped", 5, "old"),
]


@pytest.mark.parametrize(
    ("step", "fault", "code", "exit_code", "live"), ROWS, ids=[f"{row[0]} {row[2]}" for row in ROWS]
)
def test_a_row_of_the_table_is_what_happens(step, fault, code, exit_code, live):
    with rig(A, B) as made:
        outcome: MountOutcome = fault(made)
        assert outcome.exit_code == exit_code, outcome
        if " " not in code:
            assert outcome.problems[0].code == code, outcome
        key, ours = made.serves(), {made.old, outcome.to_key}
        assert {
            "old": key == made.old,
            "new": key == outcome.to_key != made.old,
            "old or new": key in ours,
            "theirs": key not in ours,
        }[live]
    assert_in_table(step, code, exit_code)


def table() -> list[list[str]]:
    """The rows of the table, without its heads."""
    text = DOC.read_text()
    part = text[text.index("### When a rotation fails") :].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    return rows[1:]


def assert_in_table(step: str, code: str, exit_code: int) -> None:
    """The table has a row of this step with this code and exit code."""
    exits = {row[4] for row in table() if row[0] == step and code in row[3]}
    # A signal gives the command its own exit code; the mount's outcome is a refusal.
    found = {number for text in exits for number in text.replace(" or ", ", ").split(", ")}
    assert str(exit_code) in found | ({"5"} if "130" in found else set()), (step, code, exits)


def test_every_code_of_the_table_is_one_of_the_program():
    source = "\n".join(path.read_text() for path in Path(skyflowctl.__file__).parent.rglob("*.py"))
    codes = {code for row in table() for code in re.findall(r"`([a-z-]+)`", row[3])}
    assert len(codes) > 20
    assert [code for code in sorted(codes) if f'"{code}"' not in source] == []
