"""Shows consumers, their secret ids and their checks, as JSON and as text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skyflowctl.cli.console import Column, Styled, Terminal, fitted, packed
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.clock import rfc3339

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.operations.consumers import ConsumerState
    from skyflowctl.vault.approle import SecretIdInfo


def states_json(states: "Iterable[ConsumerState]", manifest: "Manifest") -> dict[str, Any]:
    """Return the data of ``consumer list``."""
    paths = {one.name: one.path for one in manifest.mounts}
    return {
        "consumers": [
            {
                "consumer": one.consumer.name,
                "method": one.consumer.method,
                "type": one.consumer.type,
                "roles": [
                    {"mount": mount, "role": role, "path": f"{paths[mount]}/creds/{role}"}
                    for mount, role in one.consumer.grants
                ],
                "state": "unread" if one.problems else "live" if one.exists else "absent",
                "secret_ids": [_secret_id_json(found) for found in one.secret_ids],
            }
            for one in states
        ]
    }


def _secret_id_json(one: "SecretIdInfo") -> dict[str, Any]:
    return {
        "accessor": one.accessor,
        "created": rfc3339(one.created) if one.created else None,
        "uses_left": one.uses_left,
        "used": one.used,
        "cidrs": list(one.cidrs),
        "expires_at": rfc3339(one.expires) if one.expires else None,
    }


def show_issued(result: CommandResult, terminal: Terminal) -> None:
    """Write a wrapped secret id and what to do with it."""
    data: Mapping[str, Any] = result.data
    terminal.fields((name, value) for name, value in data.items() if name != "destroyed")
    terminal.line()
    span = f"{data['wrap_ttl']} s"
    terminal.line(f"On the application's host, within {span}, paste wrap_token at the prompt:")
    terminal.line("  (read -rs BAO_TOKEN && export BAO_TOKEN && bao unwrap -field=secret_id)")
    terminal.line(f"The application logs in at auth/{data['method']}/login with role_id and that.")


def show_states(result: CommandResult, terminal: Terminal) -> None:
    """Write a block for each consumer: what it may read, then its secret ids."""
    consumers = result.data["consumers"]
    if not consumers:
        terminal.note("the manifest declares no consumers")
    for number, one in enumerate(consumers):
        if number:
            terminal.line()
        kind = "" if one["method"] == one["type"] else f" ({one['type']})"
        terminal.line(Styled(one["consumer"], "bold"), f"  {one['method']}{kind}")
        roles = [f"{role['mount']}/{role['role']}" for role in one["roles"]]
        packed(terminal, roles or ["no Skyflow roles"], _INDENT)
        if one["secret_ids"]:
            fitted(terminal, _COLUMNS, one["secret_ids"])
            _show_limits(one["secret_ids"], terminal)
        elif one["type"] == "approle" or one["state"] != "live":
            terminal.line(_INDENT, _WITHOUT[one["state"]])


_INDENT = "  "
_WITHOUT = {
    "unread": "its login role or its secret ids could not be read",
    "absent": "the server has no login role for it",
    "live": "no secret ids",
}


def _show_limits(secret_ids: Sequence[Mapping[str, Any]], terminal: Terminal) -> None:
    for one in secret_ids:
        parts = [f"expires {one['expires_at']}"] if one.get("expires_at") else []
        parts += [f"only from {', '.join(one['cidrs'])}"] if one.get("cidrs") else []
        if parts:
            packed(terminal, [f"{one['accessor']}: {', '.join(parts)}"], _INDENT)


def _uses(row: Mapping[str, Any]) -> str:
    return "any" if row["uses_left"] is None else str(row["uses_left"])


def _used(row: Mapping[str, Any]) -> str:
    return {True: "yes", False: "no", None: "not shown"}[row["used"]]


_COLUMNS = (
    Column("SECRET ID (ACCESSOR)", lambda one: str(one["accessor"]), whole=True),
    Column("CREATED", lambda one: str(one.get("created") or ""), least=20),
    Column("USES", _uses),
    Column("USED", _used),
)


def show_rotated(result: CommandResult, terminal: Terminal) -> None:
    """Write the new secret id, or the destroyed ones."""
    show = show_destroyed if result.data["wrap_token"] is None else show_issued
    show(result, terminal)


def show_destroyed(result: CommandResult, terminal: Terminal) -> None:
    """Write what became of each secret id."""
    rows: Sequence[Mapping[str, str]] = result.data["destroyed"]
    if rows:
        terminal.table(["SECRET ID (ACCESSOR)", "RESULT"], [list(one.values()) for one in rows])
    else:
        terminal.note("no secret id to destroy")


def show_checks(result: CommandResult, terminal: Terminal) -> None:
    """Write every check that failed, and how many there were."""
    checks = result.data["checks"]
    shown = [one for one in checks if one["expected"] == "allow" or not one["ok"]]
    shown += [one for one in checks if one not in shown and one["request"] != "any"]
    terminal.table(["PATH", "REQUEST", "EXPECTED", "GOT"], [_check_row(one) for one in shown])
    failed = sum(not one["ok"] for one in checks)
    denied = sum(one["ok"] and one["expected"] == "deny" for one in checks)
    by = " (by policy: the login itself was not tried)" if result.data["by"] == "policy" else ""
    terminal.line(f"{len(checks)} checks: {failed} not ok, {denied} denied as expected{by}")


def _check_row(one: Mapping[str, Any]) -> list[Any]:
    got = one["got"] if one["ok"] else Styled(one["got"], "red")
    return [one["path"], one["request"], one["expected"], got]
