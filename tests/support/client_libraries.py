"""Runs the tests of a module twice: with reads directly, and with all through hvac.

``from support.client_libraries import client_library`` in a test module is enough.
"""

from __future__ import annotations

import pytest

from skyflowctl.vault import connection


@pytest.fixture(params=["http.client", "hvac"], autouse=True)
def client_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The library that sends the reads of this process."""
    if request.param == "hvac":
        monkeypatch.setattr(connection, "READS", frozenset())
    return request.param
