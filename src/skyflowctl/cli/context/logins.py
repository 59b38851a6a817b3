"""The logins of contexts: where they are stored, and the one that a command's requests carry."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import Problem, RefusedError, SkyflowctlError, UsageError
from skyflowctl.private_files import user_folder

if TYPE_CHECKING:
    from skyflowctl.operations.log_in import LoginInputs
    from skyflowctl.secret import Secret
    from skyflowctl.vault.contexts import ContextEntry, LoginSettings
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.held_login import HeldLogin, HeldToken
    from skyflowctl.vault.http_transport import HttpTransport
    from skyflowctl.vault.login_store import LoginRecord, LoginStore
    from skyflowctl.vault.pending_store import StoredRequest
    from skyflowctl.vault.target import Target

PENDING_FILES = "pending-files"
"""The folder in the state folder that notes the files of ``--pending``."""
_BROWSER_WAIT = timedelta(minutes=5)


def state_folder() -> Path:
    """Return the folder of skyflowctl's state on this machine."""
    return user_folder("STATE")


def login_store() -> "LoginStore":
    """Return the logins of this user on this machine."""
    from skyflowctl.credentials.schemes import keyring
    from skyflowctl.vault.login_store import LoginStore

    return LoginStore(state_folder() / "logins.json", keyring)


def parked_requests(cluster: str) -> "list[StoredRequest]":
    """Return the parked requests of a cluster that this machine has stored in the keyring."""
    from skyflowctl.credentials.schemes import keyring
    from skyflowctl.vault.pending_store import KeyringStore

    return KeyringStore(cluster, state_folder() / "pending", keyring).load()


def requests_in_files(
    cluster: str, unread: "Callable[[Path, SkyflowctlError], None]"
) -> "list[StoredRequest]":
    """Return the parked requests of a cluster in the files that ``--pending`` named on this
    machine; ``unread`` is called with each file that cannot be read."""
    from skyflowctl.vault.pending_store import FileStore, noted_files

    found = []
    for file in noted_files(state_folder() / PENDING_FILES):
        try:
            found += [one for one in FileStore(file).load() if one.cluster == cluster]
        except SkyflowctlError as error:
            unread(file, error)
    return found


def context_target(context: "ContextEntry") -> "Target":
    """Return the server of a context, without a login."""
    from skyflowctl.vault.target import TargetFlags, resolve_target

    return resolve_target(TargetFlags(context=context.name), os.environ, context)


def connector(run: CommandRun) -> "Callable[[Target], HttpTransport]":
    """Return a function that connects to a target."""
    from skyflowctl.vault.client_settings import client_timeout
    from skyflowctl.vault.http_transport import HttpTransport
    from skyflowctl.vault.waits import WaitMonitor

    waits = WaitMonitor(run.notice)
    return lambda target: HttpTransport(
        target, run_id=run.id, timeout=client_timeout(os.environ), waits=waits
    )


def login_inputs(
    run: CommandRun,
    *,
    no_input: bool = False,
    browser: bool = True,
    wait: timedelta = _BROWSER_WAIT,
) -> "LoginInputs":
    """Return where a login takes its secrets.

    Args:
        run: of the command.
        no_input: refuse instead of asking.
        browser: open a browser; else print the address of the page.
        wait: how long a person may take to log in on the page.
    """
    from skyflowctl.cli.context.credential_sources import reference_resolver
    from skyflowctl.cli.options import ReferenceOptions
    from skyflowctl.credentials.references import parse_reference
    from skyflowctl.operations.log_in import LoginInputs, open_in_browser
    from skyflowctl.operations.oidc_login import log_in_with_browser

    resolver = reference_resolver(run, ReferenceOptions(), None)

    def show(page: str) -> None:
        if browser and open_in_browser(page):
            run.terminal.alert(f"Log in on the page that the browser shows. If it does not: {page}")
        else:
            run.terminal.alert(f"Open this page in a browser on this machine: {page}")

    return LoginInputs(
        read=lambda text: resolver.resolve(parse_reference(text, "--secret"), "the login's secret"),
        ask=lambda what: _asked(run, what, no_input=no_input),
        browse=lambda transport, settings: log_in_with_browser(
            transport, settings, show, run.clock, wait.total_seconds()
        ),
        environ=os.environ,
        clock=run.clock,
    )


def _asked(run: CommandRun, what: str, *, no_input: bool) -> "Secret":
    from skyflowctl.secret import Secret

    if no_input or not run.may_ask:
        raise UsageError(
            f"the {what} is missing",
            why="this run cannot ask for it, and it cannot be an argument",
            fix="give --secret with its place: file:PATH, env:NAME, or - for standard input",
            code="no-secret",
        )
    import getpass

    return Secret(getpass.getpass(f"{what.capitalize()}: "))


def with_login(target: "Target", context: "ContextEntry", run: CommandRun) -> "Target":
    """Return the target with the context's login, if there is one.

    A login that takes no person is made for this command if none is stored.

    Raises:
        SkyflowctlError: the keyring cannot be used, or that login fails.
    """
    from skyflowctl.operations.log_in import needs_no_person
    from skyflowctl.operations.sessions import has_expired

    store = login_store()
    record = store.find(context)
    repeat = None
    if context.login is not None and needs_no_person(context.login):
        repeat = _repeater(target, context.login, run)
    if record is not None and not has_expired(record, run.clock.now()):
        token = store.token(record)
        if token is not None:
            login = bound_login(run, target, repeat)(record, token)
            return replace(target, token=token, login=login)
    if repeat is not None:
        return _logged_in_now(target, repeat, run)
    if record is not None:
        run.warn(_expired(record))
    return target


def bound_login(
    run: CommandRun, target: "Target", repeat: "Callable[[], HeldToken] | None" = None
) -> "Callable[[LoginRecord, Secret], HeldLogin]":
    """Return a function that binds a stored login to its cluster."""
    from skyflowctl.clock import time_or_none
    from skyflowctl.vault.held_login import HeldLogin, HeldToken

    def bind(record: "LoginRecord", token: "Secret") -> "HeldLogin":
        ends = time_or_none(record.expires_at)
        held = HeldToken(token, record.ttl, ends, record.renewable)
        renew = _renewer(target, record.cluster, run)
        return HeldLogin(record.cluster, held, renew=renew, repeat=repeat, clock=run.clock)

    return bind


def _renewer(target: "Target", cluster: str, run: CommandRun) -> "Callable[[Secret], HeldToken]":
    from skyflowctl.vault.held_login import HeldLogin, HeldToken
    from skyflowctl.vault.login_api import renew_token

    def renewed(token: "Secret") -> "HeldToken":
        # Bound to the cluster as well, and without an end: it is not renewed to be renewed.
        held = HeldToken(token, 0, None, renewable=False)
        login = HeldLogin(cluster, held, renew=renewed, repeat=None, clock=run.clock)
        transport = connector(run)(replace(target, token=token, login=login))
        try:
            return renew_token(transport, token, run.clock)
        finally:
            transport.close()

    return renewed


def _repeater(
    target: "Target", settings: "LoginSettings", run: CommandRun
) -> "Callable[[], HeldToken]":
    from skyflowctl.operations.log_in import log_in

    def again() -> "HeldToken":
        transport = connector(run)(replace(target, token=None, login=None))
        try:
            return log_in(transport, settings, login_inputs(run, no_input=True)).held()
        finally:
            transport.close()

    return again


def _logged_in_now(
    target: "Target", repeat: "Callable[[], HeldToken]", run: CommandRun
) -> "Target":
    """Return the target with a login that was made for this command alone."""
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.held_login import HeldLogin

    transport = connector(run)(target)
    try:
        cluster = Gateway(transport).sys.cluster_id()
    finally:
        transport.close()
    held = repeat()
    login = HeldLogin(
        cluster,
        held,
        renew=_renewer(target, cluster, run),
        repeat=repeat,
        clock=run.clock,
        is_own=True,
    )
    return replace(target, token=held.token, login=login)


def end_own_login(
    target: "Target", gateway: "Gateway", run: CommandRun, parked: "Callable[[str], bool]"
) -> None:
    """Revoke a login that was made for this command, unless a request of it is parked.

    Args:
        target: with the login.
        gateway: of the command.
        run: of the command.
        parked: whether this run has parked a request at a cluster.
    """
    from skyflowctl.vault.errors import VaultError
    from skyflowctl.vault.login_api import end_login

    if target.login is None or not target.login.is_own:
        return
    try:
        if not parked(gateway.transport.cluster_id):
            end_login(gateway.transport)
    except (VaultError, RefusedError) as error:
        run.warn(
            Problem(
                "login-left",
                "the login of this command was not revoked",
                error.problems[0].why or error.problems[0].summary,
                "it ends by itself",
            )
        )


def _expired(record: "LoginRecord") -> Problem:
    return Problem(
        "login-expired",
        f"the login of {record.context} expired at {record.expires_at}",
        "it was not renewed in time, or had reached its longest life",
        f"'skyflowctl login --context {record.context}' logs in again",
    )
