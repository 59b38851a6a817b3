"""``doctor`` on a real stack: what is well, and each failure by its grade and fix."""

from __future__ import annotations

import pytest
from support.stack import Stack, running_stack

pytestmark = pytest.mark.real_server


@pytest.fixture(scope="module")
def stack():
    with running_stack(apply=True) as running:
        yield running


def findings(stack: Stack, *words: str, check: int = 0, exported: bool = True):
    answer = stack.json("doctor", *words, check=check, exported=exported)
    found = answer["data"]["findings"]
    assert sum(answer["data"]["summary"].values()) == len(found)
    assert all(one["fix"] for one in found if one["grade"] in {"bad", "warning"})
    return found


def grades(found, check: str) -> set[str]:
    return {one["grade"] for one in found if one["check"] == check}


def test_a_good_stack_has_no_bad_finding(stack: Stack):
    found = findings(stack)
    for check in ("target", "tls", "nodes", "login", "permissions", "plugin", "engine", "keys"):
        assert grades(found, check) == {"ok"}, [one for one in found if one["check"] == check]
    assert grades(found, "token service") == {"unknown"}, "no reference is followed here"
    audit = [one["summary"] for one in found if one["check"] == "audit"]
    assert audit == ["there is only one audit device"]


def test_without_a_server_this_machine_is_checked_all_the_same(stack: Stack):
    found = findings(stack, check=6, exported=False)
    assert grades(found, "target") == {"unknown"}
    assert not grades(found, "nodes")
    lost = [one["summary"] for one in found if one["check"] == "credentials"]
    assert len(lost) == 3, "the dev stack generated the credentials; their files are not there"
    assert all(one.startswith("there is no file") for one in lost)


def test_a_server_that_does_not_answer_is_bad_and_not_asked_further(stack: Stack):
    found = findings(stack, "--address", "https://127.0.0.1:1", check=6)
    assert grades(found, "tls") == grades(found, "nodes") == {"bad"}
    assert grades(found, "server") == {"unknown"}


def test_a_login_that_is_not_valid_is_bad(stack: Stack, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("s.wrong")
    wrong.chmod(0o600)
    found = findings(stack, "--token-file", str(wrong), check=6)
    assert grades(found, "login") == {"bad"}
    assert grades(found, "permissions") == {"unknown"}
