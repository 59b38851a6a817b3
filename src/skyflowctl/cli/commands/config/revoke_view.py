"""The result of a cut-off, as JSON and as text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from skyflowctl.cli.commands.rotate.progress import steps_json
from skyflowctl.cli.console import Piece, Styled, Terminal, safe
from skyflowctl.cli.envelope import problem_json
from skyflowctl.cli.help import wrap
from skyflowctl.rotation.revocation.model import AtSkyflow, RevokeOutcome
from skyflowctl.text import counted

_AT_SKYFLOW = {
    AtSkyflow.DELETED.value: Styled("deleted", "green"),
    AtSkyflow.ABSENT.value: Styled("not there", "green"),
    AtSkyflow.LEFT.value: Styled("still valid", "bold red"),
    AtSkyflow.UNKNOWN.value: Styled("not known", "bold yellow"),
}

_OPERATOR_FLAGS = "--delete-keys, --operator-token, --account-id and --management-host"
_GONE = frozenset({AtSkyflow.DELETED.value, AtSkyflow.ABSENT.value})


def revocation_json(outcome: RevokeOutcome, command_for_keys: str) -> dict[str, Any]:
    """Return the data for JSON.

    Args:
        outcome: of the cut-off.
        command_for_keys: the command that deletes the remaining keys at Skyflow, if any.
    """
    data = asdict(outcome)
    for left_out in ("problems", "exit_code"):
        del data[left_out]
    data["keys"] = [{**one, "versions": list(one["versions"])} for one in data["keys"]]
    data["nodes"] = [
        {**asdict(one), "roles": [asdict(role) for role in one.roles], "proved": one.proved}
        for one in outcome.nodes
    ]
    data["others"] = [{**asdict(one), "broken": one.broken} for one in outcome.others]
    data["cannot_revoke"] = [asdict(one) for one in outcome.cannot_revoke]
    left = any(one["at_skyflow"] not in _GONE for one in data["keys"])
    data["next"] = command_for_keys if left else ""
    data["steps"] = steps_json(outcome.steps)
    data["warnings"] = [problem_json(one) for one in outcome.warnings]
    return data


def show_revocation(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write it as a page for an incident file."""
    if data["cut_off"] and data["done_before"]:
        title = Styled("was cut off already", "bold green")
        terminal.line(data["path"], " ", title, "; this run proved it again")
    elif data["cut_off"]:
        terminal.line(data["path"], " ", Styled("has been cut off", "bold green"))
    else:
        terminal.line(data["path"], " ", Styled("is not cut off", "bold red"))
    terminal.fields(
        [("reason", data["reason"]), ("run", data["run_id"]), ("at", data["cut_off_at"])],
        indent="  ",
    )
    _keys(data["keys"], terminal)
    _nodes(data["nodes"], terminal)
    _others(data["others"], terminal)
    _remains(data["cannot_revoke"], terminal)
    _to_delete(data, terminal)


def _to_delete(data: Mapping[str, Any], terminal: Terminal) -> None:
    """Write how to delete the remaining keys at Skyflow."""
    left = sum(one["at_skyflow"] not in _GONE for one in data["keys"])
    if not left:
        return
    terminal.line()
    if data["next"]:
        terminal.line(Styled("next", "dim"), f"  {data['next']}")
        terminal.line(f"      deletes {counted(left, 'key')} at Skyflow")
    else:
        terminal.line(Styled("next", "dim"), f"  delete {counted(left, 'key')} in Skyflow Studio,")
        terminal.line(f"      or run the same command with {_OPERATOR_FLAGS}")


def _keys(keys: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    if not keys:
        return
    _heading("Keys", terminal)
    headers = ["KEY", "WAS", "VERSIONS", "AT SKYFLOW", "WHY"]
    if not any(one["detail"] for one in keys):
        headers.pop()
    rows: list[list[Piece]] = [
        [
            one["key_id"],
            one["was"],
            ", ".join(map(str, one["versions"])),
            _AT_SKYFLOW[one["at_skyflow"]],
            one["detail"],
        ][: len(headers)]
        for one in keys
    ]
    terminal.table(headers, rows)


def _nodes(nodes: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    _heading("Proved on every node: creds fail", terminal)
    for one in nodes:
        good = one["proved"]
        mark = Styled("proved", "green") if good else Styled("not proved", "bold red")
        failing = [role["role"] for role in one["roles"] if not role["ok"]]
        why = one["problem"] or (f"still mints: {', '.join(failing)}" if failing else "")
        terminal.line("  ", mark, f"  {one['node']}  {why or counted(len(one['roles']), 'role')}")


def _others(others: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    if not others:
        return
    _heading("Other mounts", terminal)
    rows: list[list[Piece]] = [
        [
            one["path"],
            one["before"],
            Styled(one["after"] or "-", "green" if one["after"] == "ok" else "bold yellow"),
        ]
        for one in others
    ]
    terminal.table(["MOUNT", "BEFORE", "AFTER"], rows)


def _remains(remains: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    if not remains:
        return
    _heading("What cannot be revoked", terminal)
    for one in remains:
        until = f"until {one['until']}" if one["until"] else "no end known"
        left = len(until) + 4
        room = max(30, terminal.width - left) if terminal.interactive_out else len(one["what"])
        first, *more = wrap(safe(one["what"]), room) or [""]
        terminal.line("  ", Styled(until, "yellow"), f"  {first}")
        for line in more:
            terminal.line(" " * left, line)


def _heading(text: str, terminal: Terminal) -> None:
    terminal.line()
    terminal.line(Styled(text, "bold"))
