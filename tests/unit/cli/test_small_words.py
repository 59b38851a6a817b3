"""What commands say about what is not there, and how a wide table fits."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from skyflowctl.cli.commands.status import _columns, _view
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.envelope import CommandResult

KEY = {
    "key_id": "b35157b4b1de5138ff8851cec92ccdcd",
    "age_seconds": 90,
    "expires_at": "2027-11-22T00:00:00Z",
    "due": False,
    "due_at": "2027-02-20T00:00:00Z",
}
UNTOLD = {"key_id": "", "age_seconds": None, "expires_at": "", "due": False, "due_at": ""}


@pytest.mark.parametrize(("credential", "shown"), [(UNTOLD, "?"), (None, "-")])
def test_status_shows_what_an_engine_does_not_report_as_unknown(credential, shown):
    row = {"credential": credential, "unread": False}
    columns = {one.header: one for one in _columns(datetime(2027, 1, 1, tzinfo=UTC), wide=True)}
    cells = [columns[header].value(row) for header in ("KEY", "AGE", "DUE", "EXPIRES")]
    assert cells == [shown] * 4


def test_status_fits_80_columns_and_notes_what_is_not_well():
    row = {
        "name": "purchase",
        "path": "skyflow/purchase",
        "engine": {
            "name": "skyflow",
            "version": "v1.0.0",
            "api": "basic",
            "missing": ["cas"],
            "catalog": None,
        },
        "health": "refused",
        "roles": ["a", "b"],
        "credential": KEY,
        "unread": False,
        "drift": [],
    }
    terminal = Terminal(out=io.StringIO(), err=io.StringIO())
    _view(CommandResult({"mounts": [row], "nodes": [], "manifest": "shop"}), terminal)
    lines = terminal.out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "b35157b4…" in lines[1]
    assert "1 mount not ok" in terminal.err.getvalue()
    assert "* another engine, with the basic API: it lacks cas" in terminal.err.getvalue()
