"""Rotations under load: clients that read tokens without pause and never ask twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from support.rotation_load import (
    Door,
    Minted,
    Readers,
    Wanted,
    cut_overs,
    emulator_of,
    failures,
    held_rotation,
)
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow, pytest.mark.timeout(480)]

ROTATED = "skyflow/payment"
MOUNTS = ("skyflow/order", "skyflow/purchase", "skyflow/payment")
WANTED = (
    Wanted("skyflow/payment", "payment-producer", "txn:1"),
    Wanted("skyflow/order", "order-consumer-analytics"),
    Wanted("skyflow/payment", "payment-consumer-settlement", {"purpose": "load", "batch": 1}),
    Wanted("skyflow/purchase", "purchase-producer", "cart:1"),
)
TOKEN_SECONDS = 2
ROTATIONS = 10
READS = 5_000
BETWEEN = 100


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack() as running:
        # Before the first token: the engine remembers the longest life that it has seen.
        emulator_of(running).set_token_lifetime(TOKEN_SECONDS)
        running.cli("apply", "-y", exported=True)
        yield running


def rotate(stack: Stack, *args: str) -> list[dict]:
    words = ("rotate", *args, "--generate", "-y", "-o", "json")
    environ = {**stack.environ, **stack.exports}
    done = held_rotation(words, BETWEEN, [stack.audit_log], environ, stack.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["data"]["mounts"]


def live_key(stack: Stack, mount: str) -> str:
    return stack.api("GET", f"{mount}/config")["data"]["key_id"]


def test_no_read_fails_while_credentials_are_replaced(stack: Stack) -> None:
    control = emulator_of(stack)
    minted = Minted(control)
    control.reset_log()
    first = {mount: live_key(stack, mount) for mount in MOUNTS}
    door = Door("dev", stack.exports["BAO_ADDR"])
    token, ca = stack.exports["BAO_TOKEN"], Path(stack.exports["BAO_CACERT"])
    chain = [first[ROTATED]]
    with Readers([door], WANTED, token, ca) as clients:
        clients.wait_for(BETWEEN)
        for number in range(ROTATIONS):
            if number == ROTATIONS // 2:
                everything = rotate(stack, "--all", "--retire-old")
                chain.append(live_key(stack, ROTATED))
                minted.collect()
            (done,) = rotate(stack, "payment")
            assert (done["result"], done["from"]) == ("rotated", chain[-1]), done
            chain.append(done["to"])
        clients.wait_for(READS)
    minted.collect()
    assert failures(clients.reads) == []
    assert len(clients.reads) >= READS
    assert {one["result"] for one in everything} <= {"rotated", "retired"}
    check_cut_overs(stack, clients, minted, chain)
    check_retired(stack, first, minted)


def check_cut_overs(stack: Stack, clients: Readers, minted: Minted, chain: list[str]) -> None:
    """By the server's own times: reads went on in each cut-over, and no old key minted after."""
    replaced = cut_overs([stack.audit_log], ROTATED)
    assert len(replaced) == len(chain) - 1 == ROTATIONS + 1
    for (old, new), one in zip(pairwise(chain), replaced, strict=True):
        between = one.reads(clients.reads)
        assert len(between) >= BETWEEN, one
        assert minted.keys_of(read for read in between if read.mount == ROTATED) == {
            new: len([read for read in between if read.mount == ROTATED])
        }
        late = [read for read in clients.reads if read.begun > one.commit]
        assert old not in minted.keys_of(late)
    others = [each for mount in MOUNTS[:2] for each in cut_overs([stack.audit_log], mount)]
    assert len(others) == 2
    assert all(len(each.reads(clients.reads)) >= BETWEEN for each in others)


def check_retired(stack: Stack, first: dict[str, str], minted: Minted) -> None:
    """--retire-old has ended the first keys, and no token of them was wanted any more."""
    accounts = emulator_of(stack).state()["accounts"]
    known = {key for account in accounts.values() for key in account["keys"]}
    assert known.isdisjoint({first["skyflow/order"], first["skyflow/purchase"]})
    history = stack.api("LIST", f"{MOUNTS[0]}/config/history")["data"]["key_info"]
    assert not history["1"]["kept"]
