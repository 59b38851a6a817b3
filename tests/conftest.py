"""Fixtures that every kind of test may use; servers and keys are made once a session."""

from __future__ import annotations

import os
import shutil

import pytest
from support.approvals import running_approvals
from support.bao import running_bao
from support.emulator import emulator  # noqa: F401
from support.https import local_ca  # noqa: F401
from support.keys import service_account_text, signing_rsa_key  # noqa: F401
from support.stack import running_stack


@pytest.fixture(scope="session")
def bao():
    """One real OpenBao server for the session. Use own mount paths; leave the rest alone."""
    with running_bao() as server:
        yield server


@pytest.fixture(scope="session")
def approvals():
    """One dev stack for the session whose server has an approver; each module resets it."""
    with running_approvals() as running:
        yield running


@pytest.fixture(scope="session")
def stack():
    """One dev stack for the session with examples/mounts.yaml applied. Leave it as it is."""
    with running_stack(apply=True) as running:
        yield running


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for tool in mark.args:
            if shutil.which(tool) is None:
                pytest.skip(f"needs the system tool {tool}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failed run: the tool that it needs must be installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("SKYFLOWCTL_TEST_NO_SKIPS"):
        return
    if reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was skipped and why: a skip is never silent."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section("skipped")
        for report in skipped:
            terminalreporter.write_line(f"{report.nodeid}: {report.longrepr[2]}")
