"""Rotation on a real dev stack, with nothing but what ``dev env`` exports."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator

import pytest
from support.cli import checked_data
from support.stack import BIN, Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(apply=True) as running:
        yield running


def live_key(stack: Stack, mount: str) -> str:
    return stack.json("config", "show", mount)["data"]["key_id"]


def rotate(stack: Stack, *words: str, check: int = 0) -> list[dict]:
    text = stack.cli("rotate", *words, "-o", "json", exported=True, check=check).stdout
    return checked_data(text)["mounts"]


def test_a_key_is_generated_and_gone_back_from(stack: Stack) -> None:
    before = live_key(stack, "payment")
    (one,) = rotate(stack, "payment", "--generate", "-y")
    assert (one["result"], one["from"], one["live_key_id"]) == ("rotated", before, one["to"])
    assert one["to"] not in ("", before)
    assert live_key(stack, "payment") == one["to"]
    (back,) = rotate(stack, "--rollback", "payment")
    assert (back["result"], back["live_key_id"]) == ("rolled_back", before)


def test_the_commands_that_are_printed_work_as_they_stand(stack: Stack) -> None:
    before = live_key(stack, "payment")
    done = stack.cli("rotate", "payment", "--generate", "-y", exported=True).stdout
    printed = dict(re.findall(r"^  (next|back) +skyflowctl (.*)$", done, re.MULTILINE))
    (back,) = rotate(stack, *shlex.split(printed["back"])[1:])
    assert back["live_key_id"] == before == live_key(stack, "payment")
    (one,) = rotate(stack, "payment", "--generate", "-y")
    assert shlex.split(one["next"])[1:] == shlex.split(printed["next"])
    old = ["--now", "--allow-destroy=skyflow/payment", "-y"]
    words = [word for word in shlex.split(one["next"])[2:] if word != "--wait"]
    (retired,) = rotate(stack, *words, *old)  # the old tokens live for an hour
    assert retired["result"] == "retired"


def test_all_mounts_and_the_manifest_is_not_written_back(stack: Stack) -> None:
    done = rotate(stack, "--all", "--generate", "-y")
    assert [(one["name"], one["result"]) for one in done] == [
        ("order", "rotated"), ("purchase", "rotated"), ("payment", "rotated"),
    ]  # fmt: skip
    for one in done:
        role = stack.json("status", one["name"])["data"]["mounts"][0]["roles"][0]
        assert role
    applied = stack.json("apply", "-y")["data"]
    assert applied["actions"] == []
    assert [live_key(stack, one["name"]) for one in done] == [one["to"] for one in done]


def test_no_reference_of_the_manifest_is_followed(stack: Stack) -> None:
    """credentials/purchase.json does not exist: the stand-in speaks for it."""
    done = stack.cli("rotate", "purchase", "-y", "-o", "json", exported=True, check=None)
    whole = json.loads(done.stdout)
    assert done.returncode == 5
    assert "file" not in whole["errors"][0]["why"]


def test_nothing_is_due(stack: Stack) -> None:
    done = stack.cli("rotate", "--due", exported=True)
    assert done.stdout.startswith("Nothing is due.")


def test_an_old_key_is_retired_with_the_word_more(stack: Stack) -> None:
    old_version = stack.json("config", "show", "order")["data"]["credential_version"]
    (one,) = rotate(stack, "order", "--generate", "-y")
    refused = stack.json("rotate", "--retire", "order", "-y", check=5)
    assert refused["status"] == "refused"
    now = ("--retire", "order", "--now", "-y")
    assert stack.json("rotate", *now, check=5)["errors"][0]["code"] == "needs-allow-destroy"
    (done,) = rotate(stack, *now, "--allow-destroy=skyflow/order")
    assert done["result"] == "retired"
    assert {"delete-old-key", "destroy-kept"} <= {step["name"] for step in done["steps"]}
    again = stack.json("rotate", "--rollback", "order", "--to", str(old_version), check=5)
    assert again["errors"][0]["why"]
    assert live_key(stack, "order") == one["to"]


def test_a_watch_that_is_interrupted_rolls_back(stack: Stack) -> None:
    before = live_key(stack, "purchase")
    with subprocess.Popen(
        [BIN / "skyflowctl", "rotate", "purchase", "--generate", "-y", "--watch", "5m"],
        env={**stack.environ, **stack.exports},
        cwd=stack.folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr
        try:
            for line in process.stderr:
                if " verify-nodes " in line:
                    process.send_signal(signal.SIGINT)
                    break
            said = process.stderr.read()
            assert process.wait(timeout=60) == 130, said
        finally:
            process.kill()
    assert live_key(stack, "purchase") == before


def test_a_mount_is_cut_off_and_the_way_out_that_every_command_prints_works() -> None:
    """On a stack of its own: other tests count on the mount."""
    with running_stack(apply=True) as stack:
        check_cut_off(stack)
        check_way_out(stack)


def check_cut_off(stack: Stack) -> None:
    words = ("config", "revoke", "payment", "--reason", "TEST", "-y")
    text = stack.cli(*words, "-o", "json", exported=True).stdout
    data = checked_data(text)
    assert data["cut_off"]
    assert all(node["proved"] for node in data["nodes"])
    assert {one["path"] for one in data["others"]} == {"skyflow/order", "skyflow/purchase"}
    assert not any(one["broken"] for one in data["others"])
    deleted = checked_data(stack.cli(*words, "--delete-keys", "-o", "json", exported=True).stdout)
    assert deleted["done_before"]
    assert {one["at_skyflow"] for one in deleted["keys"]} <= {"deleted", "absent"}
    protected = stack.json("config", "revoke", "order", "--reason", "TEST", "-y", check=5)
    assert protected["errors"][0]["code"] == "needs-allow-destroy"


ADVISE = {
    "status": 0,
    "health": 6,
    "plan": 0,
    "apply -y": 3,
    "audit posture": 0,
    "mount show payment": 0,
    "config show payment": 0,
}
"""Commands that speak of a mount that was cut off, with their exit codes."""


def check_way_out(stack: Stack) -> None:
    """The dev stack's account and operator stand in, though all keys at Skyflow are deleted."""
    advised = set()
    for words, code in ADVISE.items():
        done = stack.cli(*words.split(), exported=True, check=code)
        (sentence,) = re.findall(r"write a new key: .*", done.stdout + done.stderr)[:1]
        advised.add(sentence)
    (advice,) = advised
    (printed,) = re.findall(r"'(skyflowctl [^']+)'", advice)
    assert printed == "skyflowctl rotate payment --generate"
    stack.cli(*printed.split()[1:], "-y", exported=True)
    health = stack.json("health", "payment", "--refresh")["data"]["mounts"]
    assert [one["state"] for one in health] == ["ok"]
    planned = stack.json("plan")["data"]
    assert (planned["actions"], planned["drift"]) == ([], [])
