"""Control groups on a real server: no command takes a parked request for a done one."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from support.approvals import (
    ALL,
    BASE,
    Approvals,
    codes,
    free,
    guarded,
    proxy,
)
from support.cli import checked_envelope

from skyflowctl.clock import parse_rfc3339

pytestmark = pytest.mark.real_server


@pytest.fixture(scope="module")
def module_place(approvals: Approvals) -> Approvals:
    """The server as the example's manifest has it, whatever ran before."""
    approvals.stack.cli("apply", "-y", exported=True)
    return approvals


@pytest.fixture
def place(module_place) -> Iterator[Approvals]:
    """The server; nothing that a test leaves waiting meets the next one."""
    yield module_place
    module_place.withdraw_all()


def test_a_write_without_a_way_to_wait_is_withdrawn_and_refused(place):
    token = place.operator(guarded("skyflow/order/config"))
    before, known = place.description(), place.parked_ever()
    envelope = place.run(token, "config", "write", "order", "--description", "x", check=5)
    assert envelope["status"] == "refused"
    assert place.description() == before
    assert place.parked_ever() > known
    assert place.waiting() == {}


def test_a_control_group_without_a_ttl_is_refused(place):
    token = place.operator(guarded("skyflow/order/config", ttl=""))
    before = place.description()
    envelope = place.run(token, "config", "write", "order", "--description", "x", check=5)
    assert (envelope["status"], codes(envelope)) == ("refused", ["control_group_without_ttl"])
    assert place.description() == before


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


def test_three_writes_before_an_approval_leave_one_request(place, pending_file):
    token = place.operator(guarded("skyflow/order/config"))
    before, keep = place.description(), ("--pending", str(pending_file))
    answers = [place.write(token, "one", *keep, check=7) for _ in range(3)]
    assert [one["status"] for one in answers] == ["pending"] * 3
    accessors = {one["data"]["pending"]["accessor"] for one in answers}
    assert set(place.waiting()) == accessors
    assert len(accessors) == 1
    pending = answers[0]["data"]["pending"]
    assert (pending["creation_path"], pending["stored"]) == ("skyflow/order/config", "file")
    assert pending_file.stat().st_mode & 0o777 == 0o600
    assert place.description() == before

    place.approve(pending["accessor"])
    done = place.write(token, "one", *keep, check=0)
    assert done["status"] == "ok"
    assert place.description() == "one"
    assert place.waiting() == {}
    assert not pending_file.exists()
    version = place.config()["version"]
    again = place.write(token, "one", *keep, check=0)
    assert again["data"]["changed"] == []
    assert place.config()["version"] == version


def test_a_resumed_write_names_both_runs(place, pending_file):
    token = place.operator(guarded("skyflow/order/config"))
    keep = ("--pending", str(pending_file))
    first = place.write(token, "two", *keep, check=7)
    place.approve(first["data"]["pending"]["accessor"])
    done = place.stack.cli(
        "config", "write", "order", "--description", "two", *keep,
        exported=True, env=place.env(token),
    )  # fmt: skip
    assert first["run_id"] in done.stderr
    assert f"of run {first['run_id']}" in done.stderr
    assert place.description() == "two"


def test_another_body_is_a_new_request_and_the_old_one_is_withdrawn(place, pending_file):
    token = place.operator(guarded("skyflow/order/config"))
    keep = ("--pending", str(pending_file))
    first = place.write(token, "three", *keep, check=7)["data"]["pending"]["accessor"]
    second = place.write(token, "four", *keep, check=7)["data"]["pending"]["accessor"]
    assert first != second
    assert list(place.waiting()) == [second]
    place.approve(second)
    place.write(token, "four", *keep, check=0)
    assert place.description() == "four"


def test_a_request_whose_object_changed_meanwhile_is_withdrawn(place, pending_file):
    token = place.operator(guarded("skyflow/order/config"))
    keep = ("--pending", str(pending_file))
    accessor = place.write(token, "five", *keep, check=7)["data"]["pending"]["accessor"]
    place.api("POST", "skyflow/order/config", {"description": "somebody else's"})
    assert place.write(token, "five", *keep, check=7)["data"]["pending"]["accessor"] == accessor
    place.approve(accessor)
    refused = place.write(token, "five", *keep, check=5)
    assert codes(refused) == ["changed-meanwhile"]
    assert place.description() == "somebody else's"
    assert place.waiting() == {}
    assert not pending_file.exists()


@pytest.mark.parametrize("way", ["withdrawn", "dead login"])
def test_a_request_that_is_gone_is_sent_anew(place, pending_file, way):
    token = place.operator(guarded("skyflow/order/config"))
    keep = ("--pending", str(pending_file))
    accessor = place.write(token, "six", *keep, check=7)["data"]["pending"]["accessor"]
    if way == "withdrawn":
        place.api("POST", "auth/token/revoke-accessor", {"accessor": accessor})
    else:
        place.approve(accessor)
        place.api("POST", "auth/token/revoke-self", token=token)
        token = place.login("ana")
    anew = place.write(token, "six", *keep, check=7)["data"]["pending"]["accessor"]
    assert anew != accessor
    assert list(place.waiting()) == [anew]
    place.approve(anew)
    place.write(token, "six", *keep, check=0)
    place.api("POST", "skyflow/order/config", {"description": "reset"})


def test_a_request_expires_with_its_wrapping_token_or_its_login(place, pending_file):
    token = place.operator(guarded("skyflow/order/config", ttl="2s"))
    keep = ("--pending", str(pending_file))
    first = place.write(token, "seven", *keep, check=7)["data"]["pending"]
    until = time.monotonic() + 10
    while first["accessor"] in place.waiting():
        assert time.monotonic() < until
    second = place.write(token, "seven", *keep, check=7)["data"]["pending"]
    assert second["accessor"] != first["accessor"]
    place.operator(guarded("skyflow/order/config"))
    assert place.api("POST", "auth/userpass/users/ana", {"token_ttl": "30s"})[0] == 204
    short = place.login("ana")
    assert place.api("POST", "auth/userpass/users/ana", {"token_ttl": "0s"})[0] == 204
    third = place.write(short, "eight", *keep, check=7)["data"]["pending"]
    left = parse_rfc3339(third["expires_at"]) - datetime.now(UTC)
    assert left <= timedelta(seconds=30)
    place.write(place.login("ana"), "nine", *keep, check=7)  # withdraws the one before


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
    place.write(token, "ten", "--wait-approval", "60s", check=0)
    thread.join()
    assert place.description() == "ten"
    assert place.waiting() == {}


def test_a_wait_that_ends_is_kept_or_withdrawn(place, pending_file):
    token = place.operator(guarded("skyflow/order/config"))
    place.write(token, "eleven", "--wait-approval", "1s", check=5)
    assert place.waiting() == {}
    keep = ("--wait-approval", "1s", "--pending", str(pending_file))
    kept = place.write(token, "eleven", *keep, check=7)
    assert list(place.waiting()) == [kept["data"]["pending"]["accessor"]]
    place.approve(kept["data"]["pending"]["accessor"])
    place.write(token, "eleven", *keep, check=0)


STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(("number", "code"), STOPS)
@pytest.mark.parametrize("way", ["file", "sent before", "nowhere"])
def test_a_wait_that_is_interrupted_loses_no_request(place, pending_file, way, number, code):
    """It is stored for the next run, or withdrawn where there is no place for it."""
    token, before = place.operator(guarded("skyflow/order/config")), place.description()
    keep = () if way == "nowhere" else ("--pending", str(pending_file))
    known = place.write(token, "thirteen", *keep, check=7) if way == "sent before" else None
    words = ("config", "write", "order", "--description", "thirteen")
    with place.waiting_command(token, *words, *keep) as command:
        command.send_signal(number)
        out, told = command.communicate(timeout=30)
    assert (command.returncode, checked_envelope(out)["status"]) == (code, "error")
    assert place.description() == before
    if way == "nowhere":
        assert place.waiting() == {}
        assert "it was withdrawn" in told
        return
    (accessor,) = place.waiting()
    if known is None:
        assert accessor in told
    else:
        assert accessor == known["data"]["pending"]["accessor"]
    place.approve(accessor)
    place.write(token, "thirteen", *keep, check=0)
    assert place.description() == "thirteen"
    assert not pending_file.exists()
    place.api("POST", "skyflow/order/config", {"description": before})


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_an_apply_that_is_interrupted_while_it_waits_keeps_its_request(
    place, pending_file, number, code
):
    token, keep = place.operator(guarded("skyflow/order/config")), ("--pending", str(pending_file))
    place.api("POST", "skyflow/order/config", {"description": "by hand"})
    with place.waiting_command(token, "apply", "-y", *keep) as command:
        command.send_signal(number)
        out, _ = command.communicate(timeout=30)
    envelope = checked_envelope(out)
    assert command.returncode == code
    (action,) = [one for one in envelope["data"]["actions"] if one["kind"] == "config"]
    assert list(place.waiting()) == [action["pending"]["accessor"]]
    assert (action["result"], action["pending"]["stored"]) == ("pending", "file")
    place.approve(action["pending"]["accessor"])
    place.run(token, "apply", "-y", *keep)
    assert place.description() == "Order orchestration"


def test_a_secret_that_is_parked_although_its_path_was_free_is_withdrawn(place, tmp_path):
    """The guard comes between the probe and the write."""
    place.api("POST", "sys/mounts/skyflow/late", {"type": "skyflow"})
    file = tmp_path / "key.json"
    file.write_text((place.stack.dev / "credentials" / "order.json").read_text())
    file.chmod(0o600)
    token, known = place.operator(), place.parked_ever()
    policy = "\n".join([BASE, free("skyflow/*"), guarded("skyflow/late/config")])
    writes: list[str] = []

    def guard_it(path: str) -> bool:
        if path == "skyflow/late/config" and between.seen[-1].startswith("POST"):
            writes.append(path)
            place.api("PUT", "sys/policies/acl/ana", {"policy": policy})
        return False

    words = ("config", "write", "late", "--credentials", f"file:{file}")
    host = place.config()["token_uri"].split("/")[2]
    try:
        with proxy(place.stack, guard_it) as between:
            done = place.stack.cli(
                *words, "--allow-host", host, "--pending", str(tmp_path / "pending.json"),
                "-o", "json", check=5, exported=True,
                env=place.env(token, BAO_ADDR=between.address),
            )  # fmt: skip
        (error,) = json.loads(done.stdout)["errors"]
        assert (error["code"], len(writes)) == ("secret_parked", 2)
        assert "it was withdrawn" in error["why"]
        assert place.parked_ever() == known + 1
        assert place.waiting() == {}
        assert not (tmp_path / "pending.json").exists()
        assert not place.config("late")["credentials_configured"]
    finally:
        place.api("DELETE", "sys/mounts/skyflow/late")


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
    place.write(token, "twelve", "--pending", str(file), check=code)
    assert place.waiting() == {}
    if wrong == "link":
        assert target.read_text() == ""
