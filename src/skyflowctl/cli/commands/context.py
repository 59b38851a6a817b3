"""``skyflowctl context``: named servers, of which one is current."""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skyflowctl.cli.command import command
from skyflowctl.cli.console import Column, Piece, Styled, Terminal, fitted, show
from skyflowctl.cli.context import logins
from skyflowctl.cli.context.contexts import VARIABLE, context_file, contexts_path, find_context
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.login_options import LoginOptions
from skyflowctl.cli.options import (
    NoInputOption,
    OutputOptions,
    ServerOptions,
    YesOption,
    option,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.clock import SystemClock, parse_rfc3339
from skyflowctl.errors import ExitCode, Problem, RefusedError, UsageError
from skyflowctl.text import duration

if TYPE_CHECKING:
    from skyflowctl.vault.contexts import ContextEntry, Contexts, LoginSettings
    from skyflowctl.vault.login_store import LoginRecord

ContextArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The context.", show_default=False)
]
_EXITS = (ExitCode.REFUSED, ExitCode.INVALID)


@command(
    examples=[
        ("skyflowctl context list", "all of them; * marks the current one"),
        ("skyflowctl context list -o json", "for programs"),
        ("skyflowctl context list -o json | jq -r .data.current", "the current one's name"),
    ],
    exits=_EXITS,
)
def context_list(output: OutputOptions) -> None:
    """List the contexts: address, namespace and login. Asks no server."""

    def work(run: CommandRun) -> CommandResult:
        contexts = context_file().load()
        current = _current(contexts)
        store, now = logins.login_store(), run.clock.now()
        listed = [
            {
                **_as_json(one),
                "current": name == current,
                "session": _session(store.find(one), now),
            }
            for name, one in sorted(contexts.entries.items())
        ]
        data = {"current": current, "file": str(contexts_path()), "contexts": listed}
        return CommandResult(data, warnings=_hidden_contexts(current))

    run_command("context list", output, work, _view_list)


def _session(record: "LoginRecord | None", now: datetime) -> dict[str, Any] | None:
    """Return the stored login of a context as JSON; the server was not asked."""
    from skyflowctl.operations.sessions import has_expired

    if record is None:
        return None
    state = "expired" if has_expired(record, now) else "active"
    names = ("user", "policies", "method", "accessor", "cluster", "expires_at")
    return {"state": state, **{name: getattr(record, name) for name in names}}


def _current(contexts: "Contexts") -> str:
    """Return the name of the context that commands use: the environment's, else the current one.

    Raises:
        UsageError: there is no such context.
    """
    named = os.environ.get(VARIABLE, "")
    return find_context(contexts, named).name if named else contexts.current


def _hidden_contexts(current: str) -> tuple[Problem, ...]:
    from skyflowctl.vault.environment import address_variables

    hiding = address_variables(os.environ)
    if not current or not hiding:
        return ()
    problem = Problem(
        "context-not-used",
        "commands do not use the current context here",
        f"{hiding[0]} is set, and takes precedence",
        f"unset {' '.join(hiding)}, or give --context {current}",
    )
    return (problem,)


def _view_list(result: CommandResult, terminal: Terminal) -> None:
    rows = result.data["contexts"]
    if rows:
        fitted(terminal, _COLUMNS, rows)
    else:
        terminal.note("no contexts")


def _login_text(row: Mapping[str, Any]) -> Piece:
    """Return how long the login lasts and whose it is; without one, how to log in."""
    session = row["session"]
    if session is None:
        return f"none ({row['login']['method']})" if row["login"] else "none"
    if session["state"] == "expired":
        return Styled("expired", "red")
    who = session["user"] or session["accessor"]
    if not session["expires_at"]:
        return f"without end: {who}"
    left = parse_rfc3339(session["expires_at"]) - SystemClock().now()
    return f"{duration(left)} left: {who}"


_COLUMNS = (
    Column("", lambda one: Styled("*", "bold") if one["current"] else " ", least=1),
    Column("NAME", lambda one: str(one["name"]), whole=True),
    Column("ADDRESS", lambda one: str(one["address"]), least=16),
    Column("NAMESPACE", lambda one: str(one["namespace"] or "-"), least=4),
    Column("LOGIN", _login_text, least=26),
    Column("POLICIES", lambda one: show((one["session"] or {}).get("policies")), least=8),
)


@command(
    examples=[
        ("skyflowctl context use prod", "later commands use prod"),
        ("skyflowctl context use prod -o json", "for programs"),
        ("skyflowctl plan --context prod", "instead: prod for one call"),
    ],
    exits=_EXITS,
)
def context_use(name: ContextArgument, output: OutputOptions) -> None:
    """Make a context the current one. A server that a flag or BAO_ADDR names takes precedence."""

    def work(run: CommandRun) -> CommandResult:  # noqa: ARG001 - every work takes it
        before: list[str] = []

        def change(contexts: "Contexts") -> "Contexts":
            before[:] = [contexts.current]
            return replace(contexts, current=find_context(contexts, name).name)

        after = context_file().change(change)
        data = {"current": name, "before": before[0], **_as_json(after.entries[name])}
        return CommandResult(data, warnings=_hidden_contexts(name))

    run_command("context use", output, work, _view_use)


def _view_use(result: CommandResult, terminal: Terminal) -> None:
    terminal.line(f"{result.data['current']} is the current context: {result.data['address']}")


UseOption = Annotated[bool, option("--use", help="Make it the current context.")]
PrefixOption = Annotated[
    str | None,
    option(
        "--path-prefix",
        help="Where mounts are, if no manifest says it (default skyflow).",
        metavar="PATH",
    ),
]


@command(
    examples=[
        ("skyflowctl context add prod --address https://bao.example.com", "a server"),
        (
            "skyflowctl context add eu --address https://eu.example.com:8200 -n shop --use",
            "with a namespace; the current one from now on",
        ),
        (
            "skyflowctl context add ci --address https://a.example.com --method gitlab",
            "with a way to log in",
        ),
    ],
    exits=_EXITS,
)
def context_add(
    name: ContextArgument,
    server: ServerOptions,
    login: LoginOptions,
    output: OutputOptions,
    *,
    path_prefix: PrefixOption = None,
    use: UseOption = False,
    yes: YesOption = False,
    no_input: NoInputOption = False,
) -> None:
    """Add a context: a server's addresses, the namespace, its CA, and how to log in. Asks no
    server. The first context becomes the current one. A context that exists is replaced as a
    whole, after a confirmation. No secret is stored."""

    def work(run: CommandRun) -> CommandResult:
        entry = _new_entry(name, server, login, path_prefix)
        known = context_file().load().entries.get(name)
        if known is not None and known != entry:
            if (known.address, known.namespace) != (entry.address, entry.namespace):
                _refuse_logged_in(known, run)
            question = f"Replace the context {name} ({known.address})?"
            run.confirm(question, yes=yes, no_input=no_input)

        def change(contexts: "Contexts") -> "Contexts":
            if contexts.entries.get(name) not in (known, entry):
                raise _changed_meanwhile(name)
            current = name if use or not contexts.entries else contexts.current
            return replace(contexts, current=current, entries={**contexts.entries, name: entry})

        after = context_file().change(change)
        done = "unchanged" if known == entry else ("added" if known is None else "replaced")
        data = {"result": done, **_as_json(entry), "current": after.current == name}
        return CommandResult(data)

    run_command("context add", output, work, _view_add)


def _new_entry(
    name: str, server: ServerOptions, login: LoginOptions, path_prefix: str | None
) -> "ContextEntry":
    """Return the context that the options describe.

    Raises:
        UsageError: a value is malformed, or there is no address.
    """
    from skyflowctl.vault.context_file import checked_name, checked_prefix
    from skyflowctl.vault.contexts import ContextEntry
    from skyflowctl.vault.namespaces import check_namespace
    from skyflowctl.vault.target import check_address

    if server.address is None:
        raise UsageError(
            "a context needs an address",
            why="it names a server for later commands",
            fix=f"skyflowctl context add {name} --address URL",
            code="no-address",
        )
    files: dict[str, Any] = {
        one: str(Path(value).expanduser().absolute()) if (value := getattr(server, one)) else ""
        for one in ("ca_cert", "ca_path", "client_cert", "client_key")
    }
    return ContextEntry(
        checked_name(name),
        check_address(server.address),
        check_namespace(server.namespace or ""),
        nodes=tuple(map(check_address, server.nodes or ())),
        tls_server_name=server.tls_server_name or "",
        path_prefix=checked_prefix(path_prefix) if path_prefix else "",
        login=_login_settings(login),
        **files,
    )


def _login_settings(login: LoginOptions) -> "LoginSettings | None":
    """Return the login that the options describe; None if they name no method.

    Raises:
        UsageError: the method is missing, or the secret is no reference.
    """
    from skyflowctl.credentials.references import as_word, parse_reference
    from skyflowctl.vault.contexts import LoginSettings

    names = ("mount", "role", "username", "role_id", "secret", "audience")
    texts = {one: getattr(login, one) or "" for one in names}
    if login.method is None:
        if any(texts.values()):
            raise UsageError(
                "the login has no method",
                why="its other options depend on it",
                fix="add --method, such as --method oidc",
                code="no-login-method",
            )
        return None
    if texts["secret"]:
        texts["secret"] = as_word(parse_reference(texts["secret"], "--secret"))
    texts["mount"] = texts["mount"].strip("/")
    return LoginSettings(login.method, **texts)


def _changed_meanwhile(name: str) -> RefusedError:
    return RefusedError(
        f"the context {name} was changed meanwhile",
        why="another command wrote it while this one asked",
        fix="look at it with 'skyflowctl context list', and run the same command again",
        code="context-changed",
    )


def _view_add(result: CommandResult, terminal: Terminal) -> None:
    data = result.data
    now = ", and is the current one" if data["current"] else ""
    terminal.line(f"{data['name']} is {data['result']}{now}: {data['address']}")


@command(
    examples=[
        ("skyflowctl context remove staging", "asks if it is the current one"),
        ("skyflowctl context remove staging -y", "does not ask"),
        ("skyflowctl context remove staging -y -o json", "for programs"),
    ],
    exits=_EXITS,
)
def context_remove(
    name: ContextArgument,
    output: OutputOptions,
    *,
    yes: YesOption = False,
    no_input: NoInputOption = False,
) -> None:
    """Remove a context. Asks first if it is the current one: afterwards none is. A context that
    does not exist is reported, and is no error."""

    def work(run: CommandRun) -> CommandResult:
        contexts = context_file().load()
        if name not in contexts.entries:
            return CommandResult({"name": name, "result": "absent", "current": contexts.current})
        _refuse_logged_in(contexts.entries[name], run)
        if contexts.current == name:
            run.confirm(f"Remove {name}, the current context?", yes=yes, no_input=no_input)

        def change(now: "Contexts") -> "Contexts":
            if now.entries.get(name) != contexts.entries[name]:
                raise _changed_meanwhile(name)
            left = {other: one for other, one in now.entries.items() if other != name}
            return replace(now, current="" if now.current == name else now.current, entries=left)

        after = context_file().change(change)
        return CommandResult({"name": name, "result": "removed", "current": after.current})

    run_command("context remove", output, work, _view_removed)


def _refuse_logged_in(entry: "ContextEntry", run: CommandRun) -> None:
    """Refuse to remove or move a context whose token is in the keyring and still valid.

    Raises:
        RefusedError: it has a login.
    """
    from skyflowctl.operations.sessions import has_expired

    record = logins.login_store().find(entry)
    if record is not None and not has_expired(record, run.clock.now()):
        raise RefusedError(
            f"there is a login to {entry.name}",
            why="without its context, its token could be neither used nor revoked",
            fix=f"'skyflowctl logout --context {entry.name}' ends it first",
            code="logged-in",
        )


def _view_removed(result: CommandResult, terminal: Terminal) -> None:
    name, current = result.data["name"], result.data["current"]
    if result.data["result"] == "absent":
        terminal.line(f"There is no context {name}.")
        return
    terminal.line(f"{name} is removed.")
    if not current:
        terminal.note("no context is current; 'skyflowctl context use NAME' chooses one")


def _as_json(entry: "ContextEntry") -> dict[str, Any]:
    """Return a context with all its fields."""
    return {**asdict(entry), "nodes": list(entry.nodes)}
