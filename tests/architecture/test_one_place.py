"""What is decided in one place is written in no other: transient failures, threads, live state."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import skyflowctl

SOURCE = Path(skyflowctl.__file__).parent
TREES = {
    str(file.relative_to(SOURCE)): ast.parse(file.read_text())
    for file in sorted(SOURCE.rglob("*.py"))
}
ANSWERS_WITH_IT = "skyflow/emulator/"
"""The emulator plays Skyflow, which sends the status; it decides nothing."""


def numbers(tree: ast.Module) -> set[int]:
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) is int
    }


def imported(tree: ast.Module) -> set[str]:
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize(
    ("status", "places"),
    [
        # sys/health answers a standby with 429: there it is a state, no failure. The client
        # library imports nothing of ours.
        (429, {"retry.py", "vault/server_state.py", "client/session.py"}),
        (504, {"retry.py", "vault/retry_rules.py"}),
    ],
)
def test_a_transient_status_is_named_where_it_is_decided(status, places):
    named = {name for name, tree in TREES.items() if status in numbers(tree)}
    assert {name for name in named if not name.startswith(ANSWERS_WITH_IT)} == places


def test_threads_are_made_by_concurrency_alone():
    makers = {"ThreadPoolExecutor", "ProcessPoolExecutor"}
    assert [name for name, tree in TREES.items() if imported(tree) & makers] == [
        "skyflow/threads.py"
    ]


def raw_fields(tree: ast.Module) -> list[str]:
    """Where an object's ``raw`` is read; a method of that name is called, not read."""
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "raw" and node not in called
    ]


def test_a_servers_raw_answer_stays_in_the_package_that_reads_it():
    outside = {name: raw_fields(tree) for name, tree in TREES.items() if name[:6] != "vault/"}
    # The stream of an answer in requests, which is a collector's.
    assert {name for name, found in outside.items() if found} == {"telemetry/export.py"}
    assert raw_fields(TREES["vault/live.py"])


def test_each_read_of_a_raw_answer_is_seen():
    tree = ast.parse("a.raw['x']\nterminal.raw('x')\nb.config.raw.get('x')\n")
    assert raw_fields(tree) == ["1: a.raw", "3: b.config.raw"]


WAITS_OF_OTHERS = {
    # It imports nothing of ours.
    "client/session.py",
    # retry.py has no coroutine: it would block the event loop.
    "plugin/life.py",
    "skyflow/management/client.py",
    "skyflow/threads.py",
    # They wait for a time to pass, a file to grow or a process to end, not for a better result.
    "audit/lines.py",
    "client/cache.py",
    "devstack/logs.py",
    "devstack/processes.py",
    "operations/keep_token.py",
    "rotation/commit.py",
    "rotation/heartbeat.py",
    "rotation/recovery.py",
    "rotation/retire.py",
    "telemetry/export.py",
    "vault/waits.py",
}
"""Modules with a loop that waits and does not call retry.py."""


def loops_that_wait(tree: ast.Module) -> list[int]:
    """The lines of loops that sleep; a function that a loop defines is not part of it."""
    return [
        loop.lineno
        for loop in ast.walk(tree)
        if isinstance(loop, ast.While | ast.For)
        for node in ast.walk(loop)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr.strip("_") in {"sleep", "wait", "sleep_on"}
    ]


def test_a_loop_that_waits_calls_retry():
    found = {name for name, tree in TREES.items() if loops_that_wait(tree)}
    assert {one for one in found if not one.startswith(ANSWERS_WITH_IT)} == WAITS_OF_OTHERS
    assert loops_that_wait(ast.parse("for _ in x:\n    self._sleep(1)\nwhile y: deps.sleep(2)"))


def test_frozen_dataclasses_are_those_that_are_cheap_to_define():
    """One of the standard library costs each command that imports it 0.5 ms."""
    costly = [
        name
        for name, tree in TREES.items()
        if name != "frozen.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module == "dataclasses"
        and "dataclass" in {alias.name for alias in node.names}
        and "@dataclass(frozen=True, slots=True)" in (SOURCE / name).read_text()
    ]
    assert not costly, "write: from skyflowctl.frozen import dataclass"
