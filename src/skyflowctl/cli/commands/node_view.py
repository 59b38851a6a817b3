"""Shows the nodes of a cluster as text, for every command that asks each of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from skyflowctl.cli.console import Piece, Styled, Terminal

_STYLES = {
    "active": "green",
    "standby": "green",
    "standby_forwards": "yellow",
    "not_asked": "dim",
}


def show_nodes(nodes: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    """Write a table of the nodes, if there are several or one of them is not well."""
    if len(nodes) < 2 and all(one["state"] in {"active", "standby"} for one in nodes):
        return
    rows: list[list[Piece]] = [
        [
            one["node"],
            Styled(one["state"], _STYLES.get(one["state"], "bold red")),
            _clock(one["clock_skew_seconds"]),
            one["detail"],
        ]
        for one in nodes
    ]
    terminal.line()
    terminal.table(["NODE", "STATE", "CLOCK", "DETAIL"], rows)


def _clock(skew: int | None) -> Piece:
    """Return how far a clock is ahead of this machine's."""
    if skew is None:
        return "-"
    return f"{skew:+d} s" if skew else "0 s"
