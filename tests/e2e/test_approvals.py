"""Control groups on a real server: no command takes a parked request for a done one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from support.approvals import ALL, Approvals, guarded
from support.stack import running_stack
from test_how_to import blocks, plain, typed

from skyflowctl.clock import parse_rfc3339

pytestmark = pytest.mark.real_server


@pytest.fixture(scope="module")
def module_place() -> Iterator[Approvals]:
    with running_stack(apply=True) as stack:
        yield Approvals(stack).set_up()


@pytest.fixture
def place(module_place) -> Iterator[Approvals]:
    """The server; nothing that a test leaves waiting meets the next one."""
    yield module_place
    module_place.withdraw_all()


def codes(envelope) -> list[str]:
    return [one["code"] for one in envelope["errors"]]


def description(place: Approvals, path: str = "skyflow/order") -> str:
    return place.api("GET", f"{path}/config")[1]["data"]["description"]


def test_a_write_without_a_way_to_wait_is_withdrawn_and_refused(place):
    token = place.operator(guarded("skyflow/order/config"))
    before, known = description(place), place.parked_ever()
    envelope = place.run(token, "config", "write", "order", "--description", "x", check=5)
    assert envelope["status"] == "refused"
    assert description(place) == before
    assert place.parked_ever() > known
    assert place.waiting() == {}


def test_a_control_group_without_a_ttl_is_refused(place):
    token = place.operator(guarded("skyflow/order/config", ttl=""))
    before = description(place)
    envelope = place.run(token, "config", "write", "order", "--description", "x", check=5)
    assert (envelope["status"], codes(envelope)) == ("refused", ["control_group_without_ttl"])
    assert description(place) == before


@pytest.mark.parametrize("command", ["config show", "config history", "plan", "health", "status"])
def test_a_parked_read_is_withdrawn_and_named(place, command):
    token = place.operator(guarded("skyflow/order/*", controlled=ALL))
    known = place.parked_ever()
    words = command.split()
    mount = ["order"] if words[0] == "config" else []
    envelope = place.run(token, *words, *mount, check=None)
    assert "skyflow/order" in str(envelope)
    if words[0] == "config":
        assert envelope["errors"][0]["code"] == "read-needs-approval"
    assert place.parked_ever() > known
    assert place.waiting() == {}


@pytest.mark.parametrize("command", ["config show", "config history"])
def test_a_read_that_a_control_group_without_a_ttl_swallows_is_refused(place, command):
    token = place.operator(guarded("skyflow/order/*", ttl="", controlled=ALL))
    envelope = place.run(token, *command.split(), "order", check=5)
    assert codes(envelope) == ["control_group_without_ttl"]


@pytest.fixture
def pending_file(tmp_path):
    return tmp_path / "pending.json"


def write(place, token, text, *more, check=None, **env):
    words = ("config", "write", "order", "--description", text, *more)
    return place.run(token, *words, check=check, **env)


def test_three_writes_before_an_approval_leave_one_request(place, pending_file):
    token = place.operator(guarded("skyflow/order/config"))
    before, keep = description(place), ("--pending", str(pending_file))
    answers = [write(place, token, "one", *keep, check=7) for _ in range(3)]
    assert [one["status"] for one in answers] == ["pending"] * 3
    accessors = {one["data"]["pending"]["accessor"] for one in answers}
    assert set(place.waiting()) == accessors
    assert len(accessors) == 1
    pending = answers[0]["data"]["pending"]
    assert (pending["creation_path"], pending["stored"]) == ("skyflow/order/config", "file")
    assert pending_file.stat().st_mode & 0o777 == 0o600
    assert description(place) == before

    place.approve(pending["accessor"])
    done = write(place, token, "one", *keep, check=0)
    assert done["status"] == "ok"
    assert description(place) == "one"
    assert place.waiting() == {}
    assert not pending_file.exists()
    version = place.api("GET", "skyflow/order/config")[1]["data"]["version"]
    again = write(place, token, "one", *keep, check=0)
    assert again["data"]["changed"] == []
    assert place.api("GET", "skyflow/order/config")[1]["data"]["version"] == version


def test_a_resumed_write_names_both_runs(place, pending_file):
    token = place.operator(guarded("skyflow/order/config"))
    keep = ("--pending", str(pending_file))
    first = write(place, token, "two", *keep, check=7)
    place.approve(first["data"]["pending"]["accessor"])
    done = place.stack.cli(
        "config", "write", "order", "--description", "two", *keep,
        exported=True, env=place.env(token),
    )  # fmt: skip
    assert first["run_id"] in done.stderr
    assert f"of run {first['run_id']}" in done.stderr
    assert description(place) == "two"


def test_another_body_is_a_new_request_and_the_old_one_is_withdrawn(place, pending_file):
    token = place.operator(guarded("skyflow/order/config"))
    keep = ("--pending", str(pending_file))
    first = write(place, token, "three", *keep, check=7)["data"]["pending"]["accessor"]
    second = write(place, token, "four", *keep, check=7)["data"]["pending"]["accessor"]
    assert first != second
    assert list(place.waiting()) == [second]
    place.approve(second)
    write(place, token, "four", *keep, check=0)
    assert description(place) == "four"


def test_a_request_whose_object_changed_meanwhile_is_withdrawn(place, pending_file):
    token = place.operator(guarded("skyflow/order/config"))
    keep = ("--pending", str(pending_file))
    accessor = write(place, token, "five", *keep, check=7)["data"]["pending"]["accessor"]
    place.api("POST", "skyflow/order/config", {"description": "somebody else's"})
    assert write(place, token, "five", *keep, check=7)["data"]["pending"]["accessor"] == accessor
    place.approve(accessor)
    refused = write(place, token, "five", *keep, check=5)
    assert codes(refused) == ["changed-meanwhile"]
    assert description(place) == "somebody else's"
    assert place.waiting() == {}
    assert not pending_file.exists()


@pytest.mark.parametrize("way", ["withdrawn", "dead login"])
def test_a_request_that_is_gone_is_sent_anew(place, pending_file, way):
    token = place.operator(guarded("skyflow/order/config"))
    keep = ("--pending", str(pending_file))
    accessor = write(place, token, "six", *keep, check=7)["data"]["pending"]["accessor"]
    if way == "withdrawn":
        place.api("POST", "auth/token/revoke-accessor", {"accessor": accessor})
    else:
        place.approve(accessor)
        place.api("POST", "auth/token/revoke-self", token=token)
        token = place.login("ana")
    anew = write(place, token, "six", *keep, check=7)["data"]["pending"]["accessor"]
    assert anew != accessor
    assert list(place.waiting()) == [anew]
    place.approve(anew)
    write(place, token, "six", *keep, check=0)
    place.api("POST", "skyflow/order/config", {"description": "reset"})


def test_a_request_expires_with_its_wrapping_token_or_its_login(place, pending_file):
    token = place.operator(guarded("skyflow/order/config", ttl="2s"))
    keep = ("--pending", str(pending_file))
    first = write(place, token, "seven", *keep, check=7)["data"]["pending"]
    until = time.monotonic() + 10
    while first["accessor"] in place.waiting():
        assert time.monotonic() < until
    second = write(place, token, "seven", *keep, check=7)["data"]["pending"]
    assert second["accessor"] != first["accessor"]
    short = place.api("POST", "auth/token/create", {"policies": ["ana"], "ttl": "30s"})[1]
    place.operator(guarded("skyflow/order/config"))
    third = write(place, short["auth"]["client_token"], "eight", *keep, check=7)["data"]["pending"]
    left = parse_rfc3339(third["expires_at"]) - datetime.now(UTC)
    assert left <= timedelta(seconds=30)
    write(place, place.login("ana"), "nine", *keep, check=7)  # withdraws the one before


def approve_soon(place) -> threading.Thread:
    def work() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            for accessor, seen in place.waiting().items():
                if not seen["approved"]:
                    return place.approve(accessor)
        raise AssertionError("nothing was parked")

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_wait_approval_runs_the_write_as_soon_as_it_is_approved(place):
    token = place.operator(guarded("skyflow/order/config"))
    thread = approve_soon(place)
    write(place, token, "ten", "--wait-approval", "60s", check=0)
    thread.join()
    assert description(place) == "ten"
    assert place.waiting() == {}


def test_a_wait_that_ends_is_kept_or_withdrawn(place, pending_file):
    token = place.operator(guarded("skyflow/order/config"))
    write(place, token, "eleven", "--wait-approval", "1s", check=5)
    assert place.waiting() == {}
    keep = ("--wait-approval", "1s", "--pending", str(pending_file))
    kept = write(place, token, "eleven", *keep, check=7)
    assert list(place.waiting()) == [kept["data"]["pending"]["accessor"]]
    place.approve(kept["data"]["pending"]["accessor"])
    write(place, token, "eleven", *keep, check=0)


@pytest.mark.parametrize("wrong", ["link", "open to others", "other file", "folder"])
def test_a_pending_file_that_is_not_ours_alone_is_refused(place, tmp_path, wrong):
    token = place.operator(guarded("skyflow/order/config"))
    file, target = tmp_path / "pending.json", tmp_path / "target"
    if wrong == "link":
        target.write_text("")
        file.symlink_to(target)
    elif wrong == "folder":
        file.mkdir()
    else:
        file.write_text("" if wrong == "open to others" else "{}")
        file.chmod(0o644 if wrong == "open to others" else 0o600)
    code = 65 if wrong == "other file" else 5
    write(place, token, "twelve", "--pending", str(file), check=code)
    assert place.waiting() == {}
    if wrong == "link":
        assert target.read_text() == ""


def test_the_page_on_approvals_runs_as_it_stands(place):
    """Its operator's commands as the operator, and those of ``bao`` as the approver."""
    operator = place.env(place.operator(guarded("skyflow/order/config")))
    scripts = []
    for block in blocks("approvals"):
        if block.script.startswith("bao "):
            who = {"BAO_TOKEN": place.approver, "ACCESSOR": next(iter(place.waiting()))}
        else:
            who = operator
        done = typed(place.stack, block.script, **who)
        assert done.returncode == block.code, (block.script, done.stdout)
        printed = [plain(line) for line in done.stdout.splitlines()]
        for line in map(plain, block.shown):
            assert line in printed, (line, done.stdout)
        scripts.append(block.script)
    assert len(scripts) == 5
    assert description(place) == "Order intake"
    assert place.waiting() == {}
    assert not (place.stack.folder / "pending.json").exists()
