"""``skyflowctl login`` and ``logout``: the login of a context, with its token in the OS keyring."""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from skyflowctl.cli.command import command
from skyflowctl.cli.console import Terminal, show
from skyflowctl.cli.context import logins
from skyflowctl.cli.context.contexts import chosen_context, context_file
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.login_options import LOGIN_PANEL, LoginOptions
from skyflowctl.cli.options import (
    TARGET_PANEL,
    NoInputOption,
    OutputOptions,
    YesOption,
    option,
    span_seconds,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, NotPermittedError, Problem, SkyflowctlError, UsageError

if TYPE_CHECKING:
    from skyflowctl.operations.log_in import LoginInputs
    from skyflowctl.vault.contexts import ContextEntry, LoginSettings
    from skyflowctl.vault.login_store import LoginRecord, LoginStore
    from skyflowctl.vault.pending_store import StoredRequest

ContextOption = Annotated[
    str | None,
    option(
        "--context",
        help="The context. Default: the current one.",
        env="SKYFLOWCTL_CONTEXT",
        panel=TARGET_PANEL,
        metavar="NAME",
    ),
]
_EXITS = (ExitCode.NOT_PERMITTED, ExitCode.REFUSED, ExitCode.INVALID, ExitCode.UNREACHABLE)


@command(
    examples=[
        ("skyflowctl login", "to the current context, as it says"),
        ("skyflowctl login --context prod --method oidc --role oncall", "with a browser"),
        ("skyflowctl login --method oidc --no-browser", "prints the address of the page"),
        ("skyflowctl login --method token --secret file:token", "with a token you have"),
        ("skyflowctl login --status", "who, until when, which policies; asks the server"),
    ],
    exits=_EXITS,
)
def login(
    how: LoginOptions,
    output: OutputOptions,
    *,
    context: ContextOption = None,
    no_browser: Annotated[
        bool, option("--no-browser", help="Print the page's address.", panel=LOGIN_PANEL)
    ] = False,
    wait: Annotated[
        str,
        option(
            "--wait",
            help="How long to wait for a login in the browser (default 5m).",
            panel=LOGIN_PANEL,
            metavar="SPAN",
        ),
    ] = "5m",
    status: Annotated[
        bool, option("--status", help="Show the stored login; log in to nothing.")
    ] = False,
    no_input: NoInputOption = False,
) -> None:
    """Log in to a context. The token is stored in the OS keyring, for this context, its address and
    the cluster that answers there: it is never sent to another cluster, and never to an address
    from the environment. Commands renew it in time. Logins that take no person (AppRole, JWT and
    userpass with --secret; Kubernetes, GitHub, GitLab) need no keyring: without a stored login,
    each command makes its own and ends it."""

    def work(run: CommandRun) -> CommandResult:
        entry = _context(context)
        if status:
            return _status(run, entry)
        settings = _settings(entry, how)
        inputs = logins.login_inputs(
            run,
            no_input=no_input,
            browser=not no_browser,
            wait=timedelta(seconds=span_seconds(wait, "--wait")),
        )
        return _logged_in(run, entry, settings, inputs)

    run_command("login", output, work, _view_login)


def _context(name: str | None) -> "ContextEntry":
    """Return the context to log in to.

    Raises:
        UsageError: there is none.
    """
    found = chosen_context(None, name)
    if found is None:
        raise _no_context()
    return found


def _no_context() -> UsageError:
    from skyflowctl.text import listed
    from skyflowctl.vault.environment import address_variables

    contexts = context_file().load()
    hiding = address_variables(os.environ)
    if not contexts.entries:
        why, fix = "there is none yet", "'skyflowctl context add NAME --address URL' adds one"
    elif hiding:
        hide = "is set and hides" if len(hiding) == 1 else "are set and hide"
        why = f"{listed(hiding)} {hide} the current one"
        fix = f"unset {' '.join(hiding)}, or give --context {contexts.current or 'NAME'}"
    else:
        why, fix = "none is current", "give --context NAME; 'skyflowctl context use NAME' sets it"
    why = f"a login belongs to a context, and {why}"
    return UsageError("no context is named", why=why, fix=fix, code="no-context")


def _settings(entry: "ContextEntry", how: LoginOptions) -> "LoginSettings":
    """Return how to log in: the options, else the context's.

    Raises:
        UsageError: neither names a method.
    """
    from skyflowctl.vault.contexts import LoginSettings

    given = {name: value for name, value in asdict(how).items() if value is not None}
    stored = entry.login
    if stored is not None and given.get("method", stored.method) == stored.method:
        return replace(stored, **given)
    if "method" not in given:
        raise UsageError(
            f"the context {entry.name} does not say how to log in",
            why="it has no login method, and the command line names none",
            fix="give --method, such as --method oidc; 'skyflowctl context add NAME --address URL "
            "--method oidc' stores it",
            code="no-login-method",
        )
    return LoginSettings(**given)


def _logged_in(
    run: CommandRun, entry: "ContextEntry", settings: "LoginSettings", inputs: "LoginInputs"
) -> CommandResult:
    from skyflowctl.operations.log_in import log_in
    from skyflowctl.operations.sessions import record_of, store_login
    from skyflowctl.vault.gateway import Gateway

    store = logins.login_store()
    store.check_keyring()
    target = logins.context_target(entry)
    for warning in target.warnings:
        run.warn(warning)
    transport = logins.connector(run)(target)
    try:
        cluster = Gateway(transport).sys.cluster_id()
        issued = log_in(transport, settings, inputs)
        record = record_of(entry, settings.method, cluster, issued)
        replaced = store_login(store, record, issued, transport)
    finally:
        transport.close()
    left = [one for one in replaced if one.minted and one.accessor != record.accessor]
    return CommandResult(_as_json(record, "active"), warnings=tuple(map(_still_valid, left)))


def _still_valid(record: "LoginRecord") -> Problem:
    until = f" until {record.expires_at}" if record.expires_at else ""
    return Problem(
        "login-replaced",
        f"the login before is still valid{until}",
        f"a parked request of it would die with it; its accessor is {record.accessor}",
        f"to end it: bao token revoke -accessor {record.accessor}",
    )


def _status(run: CommandRun, entry: "ContextEntry") -> CommandResult:
    """Return the stored login of a context, as the server sees it now.

    Raises:
        NotPermittedError: there is none, or it has ended.
    """
    from skyflowctl.operations.sessions import check_login

    store, record = _stored(entry)
    if record is None:
        raise NotPermittedError(
            f"there is no login to {entry.name}",
            why=f"none was made at {entry.address}",
            fix=f"'skyflowctl login --context {entry.name}' logs in",
            code="not-logged-in",
        )
    target = logins.context_target(entry)
    bind = logins.bound_login(run, target)
    now = check_login(record, store, target, logins.connector(run), bind)
    return CommandResult(_as_json(now, "active"))


def _stored(entry: "ContextEntry") -> "tuple[LoginStore, LoginRecord | None]":
    store = logins.login_store()
    return store, store.find(entry)


def _as_json(record: "LoginRecord", state: str) -> dict[str, Any]:
    return {**asdict(record), "policies": list(record.policies), "state": state}


def _view_login(result: CommandResult, terminal: Terminal) -> None:
    data = result.data
    names = ("context", "address", "namespace", "cluster", "user", "policies", "method")
    terminal.fields([(name, show(data[name])) for name in names])
    terminal.fields([("expires_at", data["expires_at"] or "never"), ("accessor", data["accessor"])])


@command(
    examples=[
        ("skyflowctl logout", "ends the login of the current context"),
        ("skyflowctl logout --context prod -y", "also if parked requests die with it"),
        ("skyflowctl logout --forget", "only on this machine; the token stays valid"),
    ],
    exits=_EXITS,
)
def logout(
    output: OutputOptions,
    *,
    context: ContextOption = None,
    forget: Annotated[
        bool, option("--forget", help="Remove the token from this machine, without revoking it.")
    ] = False,
    yes: YesOption = False,
    no_input: NoInputOption = False,
) -> None:
    """End the login of a context: the server revokes the token, and it is removed from the keyring.
    Only a token that login made is revoked; one that you gave stays valid. Parked requests of the
    login die with it: they are named, and the command asks first. If the server does not answer,
    nothing is removed, so that the same command can end it later."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.sessions import EndedLogin, end_stored_login

        entry = _context(context)
        store, record = _stored(entry)
        if record is None:
            return CommandResult(
                {"context": entry.name, "address": entry.address, "result": "absent",
                 "revoked": "no", "accessor": "", "expires_at": "", "parked": []}
            )  # fmt: skip
        parked = _parked(run, record) if record.minted and not forget else []
        if parked:
            _confirm(run, record, parked, yes=yes, no_input=no_input)
        if forget:
            store.forget(record)
            done = EndedLogin(record, "no")
        else:
            target = logins.context_target(entry)
            bind = logins.bound_login(run, target)
            done = end_stored_login(record, store, target, logins.connector(run), bind)
        data = {
            "context": entry.name,
            "address": entry.address,
            "result": "removed",
            "revoked": done.revoked,
            "accessor": record.accessor,
            "expires_at": record.expires_at,
            "parked": [_parked_json(one) for one in parked],
        }
        return CommandResult(data)

    run_command("logout", output, work, _view_logout)


def _parked(run: CommandRun, record: "LoginRecord") -> "list[StoredRequest]":
    """Return the parked requests that may be the login's: the server does not tell whose."""

    def warn(file: Path, error: SkyflowctlError) -> None:
        why = error.problems[0].why
        fix = "look at the file before the login ends"
        run.warn(Problem("pending-unread", f"the parked requests in {file} are unknown", why, fix))

    stored = logins.parked_requests(record.cluster)
    return stored + logins.requests_in_files(record.cluster, warn)


def _parked_json(request: "StoredRequest") -> dict[str, str]:
    names = ("accessor", "method", "path", "run", "expires_at")
    return {name: getattr(request, name) for name in names}


def _confirm(
    run: CommandRun,
    record: "LoginRecord",
    parked: "list[StoredRequest]",
    *,
    yes: bool,
    no_input: bool,
) -> None:
    for one in parked:
        run.terminal.alert(
            f"parked: {one.method} v1/{one.path}, accessor {one.accessor}, run {one.run}"
        )
    question = f"End the login of {record.context}? The parked requests that it sent die with it."
    run.confirm(question, yes=yes, no_input=no_input)


_REVOKED = {
    "yes": "is ended: the server revoked the token.",
    "ended": "had already ended; it is removed from this machine.",
    "given": "is removed from this machine. You gave its token, so it was not revoked.",
    "no": "is removed from this machine. Its token was not revoked",
}


def _view_logout(result: CommandResult, terminal: Terminal) -> None:
    data: Mapping[str, Any] = result.data
    if data["result"] == "absent":
        terminal.line(f"There is no login to {data['context']}.")
        return
    text = _REVOKED[data["revoked"]]
    if data["revoked"] == "no":
        text += f", and is valid until {data['expires_at']}." if data["expires_at"] else "."
    terminal.line(f"The login to {data['context']} {text}")
