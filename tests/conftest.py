"""Fixtures that every kind of test may use; servers and keys are made once a session."""

from __future__ import annotations

import shutil

import pytest

from support.bao import running_bao


@pytest.fixture(scope="session")
def bao():
    """One real OpenBao server for the session. Use own mount paths; leave the rest alone."""
    with running_bao() as server:
        yield server


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for tool in mark.args:
            if shutil.which(tool) is None:
                pytest.skip(f"needs the system tool {tool}")
