"""Ten rotations of one mount at once, by hand and by cron: one wins at a time, none is lost."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from support.rotation_load import emulator_of
from support.stack import BIN, EXAMPLE, Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow, pytest.mark.timeout(180)]

PATH = "skyflow/payment"
BY_HAND = ("rotate", "payment", "--generate", "-y")
BY_CRON = ("rotate", "--due", "--generate", "-y")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The example, in which the credential of payment alone is always due."""
    manifest = tmp_path_factory.mktemp("cron") / "mounts.yaml"
    text = EXAMPLE.read_text()
    assert "max_age: 30d" in text
    manifest.write_text(text.replace("max_age: 30d", "max_age: 2s\n      renew_before: 1s"))
    with running_stack(manifest, apply=True) as running:
        yield running


@dataclass(frozen=True)
class Ended:
    """How one of them ended: its exit code, and what it says of payment."""

    code: int
    row: dict[str, Any]


def at_once(stack: Stack, *commands: tuple[str, ...]) -> list[Ended]:
    """Run these commands side by side, each with a state folder of its own machine."""
    running = [
        subprocess.Popen(
            [str(BIN / "skyflowctl"), *words, "-o", "json"],
            env={
                **stack.environ,
                **stack.exports,
                "XDG_STATE_HOME": str(stack.folder / f"machine{number}"),
            },
            cwd=stack.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number, words in enumerate(commands)
    ]
    try:
        said = [one.communicate(timeout=120) for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()
    ended = []
    for process, (out, errors) in zip(running, said, strict=True):
        rows = [
            row for row in json.loads(out)["data"].get("mounts", ()) if row["name"] == "payment"
        ]
        assert len(rows) == 1, out + errors
        ended.append(Ended(process.returncode, rows[0]))
    return ended


def halves(ended: list[Ended]) -> tuple[list[Ended], list[Ended]]:
    return ended[:5], ended[5:]


def history(stack: Stack) -> list[dict[str, Any]]:
    listed = stack.api("LIST", f"{PATH}/config/history")["data"]["key_info"]
    return [listed[number] for number in sorted(listed, key=int)]


def test_ten_at_once_leave_one_live_credential_and_a_history_of_the_winners(stack: Stack) -> None:
    before = history(stack)
    ended = at_once(stack, *([BY_HAND] * 5), *([BY_CRON] * 5))
    winners = [one.row for one in ended if one.row["result"] == "rotated"]
    assert winners
    by_hand, by_cron = ({(one.code, one.row["result"]) for one in half} for half in halves(ended))
    assert by_hand <= {(0, "rotated"), (5, "refused")}
    # The mounts that are not due count for nothing: the refused one is told as if alone.
    assert by_cron <= {(0, "rotated"), (5, "refused"), (0, "not_due")}
    config = stack.api("GET", f"{PATH}/config")["data"]
    after = history(stack)[len(before) :]
    # Every winner is one version, and each took over from the one before it.
    assert {row["to"] for row in winners} == {one["key_id"] for one in after}
    assert len(after) == len(winners)
    chain = [before[-1]["key_id"], *(one["key_id"] for one in after)]
    assert {(row["from"], row["to"]) for row in winners} == set(pairwise(chain))
    assert config["key_id"] == chain[-1]
    assert config["rotation"]["state"] == "committed"
    check_mints(stack, config, {row["to"] for row in winners} | {one["key_id"] for one in before})


def check_mints(stack: Stack, config: dict[str, Any], known: set[str]) -> None:
    """The live one mints, by Skyflow's word, and no loser has left a key behind."""
    read = stack.api("GET", f"{PATH}/creds/payment-producer?ctx=txn:1")["data"]
    assert read["key_id"] == config["key_id"]
    emulator = emulator_of(stack)
    minted = emulator.log()[-1]
    assert (minted["key_id"], minted["status"]) == (config["key_id"], 200)
    assert set(emulator.account(config["client_id"])["keys"]) <= known
