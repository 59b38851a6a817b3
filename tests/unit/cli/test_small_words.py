"""What commands say about what is not there, and how a wide table fits."""

from __future__ import annotations

import io

from skyflowctl.cli.commands.status import _view
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.envelope import CommandResult


def test_status_fits_80_columns_and_notes_what_is_not_well():
    key = {
        "key_id": "b35157b4b1de5138ff8851cec92ccdcd",
        "age_seconds": 90,
        "expires_at": "2027-11-22T00:00:00Z",
        "due": False,
        "due_at": "2027-02-20T00:00:00Z",
    }
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
        "credential": key,
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
