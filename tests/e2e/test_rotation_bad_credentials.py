"""No bad credential is ever made live by ``rotate``: the one that mints is not replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bad_credentials import KINDS
from support.keys import credential
from support.rotation_bench import Bench
from support.rotation_load import emulator_of
from support.stack import Stack, running_stack

from skyflowctl.errors import ExitCode
from skyflowctl.rotation.model import MountOutcome, Result

pytestmark = pytest.mark.slow

PATH = "skyflow/payment"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def said(outcome: MountOutcome) -> str:
    return "\n".join(f"{one.summary} {one.why} {one.fix}" for one in outcome.problems)


def refused(bench: Bench, new: Any, code: ExitCode = ExitCode.REFUSED, **options: Any) -> str:
    """Rotate to it: refused, and nothing whatever is other than before; what was said."""
    before = bench.state()
    outcome = bench.rotate(new, **options)
    assert (outcome.result, outcome.exit_code) == (Result.REFUSED, code), said(outcome)
    assert bench.state() == before
    assert bench.mints() == {before[0].key_id} == {outcome.live_key_id}
    return said(outcome)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_lint_finds_the_old_one_stays(bench: Bench, kind: str) -> None:
    make, words = KINDS[kind]
    text = refused(bench, make(credential(clientID=bench.account)), ExitCode.INVALID)
    assert words in text


def test_a_key_that_skyflow_does_not_know(bench: Bench) -> None:
    assert "reader" in refused(bench, bench.new_credential(known=False))


def test_a_key_that_has_expired_at_skyflow(bench: Bench) -> None:
    new = bench.new_credential(keyValidAfterTime=None, keyValidBeforeTime=None)
    bench.expire(new)
    assert "expired" in refused(bench, new)


def test_another_service_account_only_by_the_users_word(bench: Bench) -> None:
    new = bench.new_credential(client_id="b" * 32)
    assert "--allow-different-account" in refused(bench, new)
    outcome = bench.rotate(new, allow_different_account=True)
    assert (outcome.result, outcome.exit_code) == (Result.ROTATED, ExitCode.OK), said(outcome)
    assert bench.mints() == {new["keyID"]}
    assert bench.state()[0].client_id == "b" * 32


@pytest.mark.parametrize("missing", ["reader", "writer"])
def test_an_account_that_lacks_one_role_is_refused_and_the_role_named(
    bench: Bench, missing: str
) -> None:
    has = {"reader": "r-write", "writer": "r-read"}[missing]
    new = bench.new_credential(client_id="b" * 32, roles=(has,))
    words = set(re.findall(r"\w+", refused(bench, new, allow_different_account=True)))
    assert words & {"reader", "writer"} == {missing}


def test_a_role_that_neither_can_mint_is_named_and_does_not_block(bench: Bench) -> None:
    bench.gateway.engine("skyflow/pay").write_role("orphan", {"role_ids": ["r-nobody"]})
    new = bench.new_credential()
    outcome = bench.rotate(new)
    assert (outcome.result, outcome.exit_code) == (Result.ROTATED, ExitCode.OK), said(outcome)
    assert any("orphan" in one.summary + one.why for one in outcome.warnings)


# The same by real processes, on a real server -----------------------------------------


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(apply=True) as running:
        yield running


def look(stack: Stack) -> tuple[dict[str, Any], dict[str, Any]]:
    config = stack.api("GET", f"{PATH}/config")["data"]
    return config, stack.api("LIST", f"{PATH}/config/history")["data"]["key_info"]


def rotate(stack: Stack, content: str | bytes, *more: str, code: int) -> str:
    """Rotate payment to a file's content with this exit code; all that was printed."""
    file = stack.folder / "new.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    file.chmod(0o600)
    words = ("rotate", "payment", "--credentials", "file:new.json", "-y", *more)
    done = stack.cli(*words, check=code, exported=True)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.mark.real_server
@pytest.mark.parametrize("kind", ["cut-off", "one-bit", "unknown-host", "expired"])
def test_a_bad_file_given_to_the_command(stack: Stack, kind: str) -> None:
    before = look(stack)
    make, words = KINDS[kind]
    assert words in rotate(stack, make(credential(clientID=before[0]["client_id"])), code=65)
    assert look(stack) == before


@pytest.mark.real_server
def test_a_deleted_key_and_an_account_without_a_role_given_to_the_command(stack: Stack) -> None:
    before, control = look(stack), emulator_of(stack)
    account = before[0]["client_id"]
    deleted = control.create_key(account).reveal()
    control.delete_key(account, json.loads(deleted)["keyID"])
    rotate(stack, deleted, code=5)
    other = "e" * 32
    control.put_account(other, role_ids=["skyflow-role-payment-write", "skyflow-role-payment-risk"])
    poor = control.create_key(other).reveal()
    assert "--allow-different-account" in rotate(stack, poor, code=5)
    text = rotate(stack, poor, "--allow-different-account", code=5)
    assert "payment-consumer-settlement" in text
    assert look(stack) == before
