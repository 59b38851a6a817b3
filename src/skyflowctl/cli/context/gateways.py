"""Connects to the server of a command's options: gateway, nodes, approvals."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from skyflowctl.cli.context.bound_manifests import reach
from skyflowctl.cli.context.contexts import chosen_context
from skyflowctl.cli.context.dev_stack import started_dev_target
from skyflowctl.cli.context.logins import PENDING_FILES, end_own_login, state_folder, with_login
from skyflowctl.cli.options import (
    ApprovingTargetOptions,
    TargetOptions,
    span_seconds,
)
from skyflowctl.cli.plan_options import RequiringTargetOptions
from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import UsageError

if TYPE_CHECKING:
    from skyflowctl.vault.approval_policy import ApprovalPolicy
    from skyflowctl.vault.approving_transport import ApprovingTransport
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.pending_store import PendingStore
    from skyflowctl.vault.responses import ClusterNode
    from skyflowctl.vault.target import Target

T = TypeVar("T")
# A socket counts its timeout in milliseconds of a C int, which is 24 days.
_LONGEST_TIMEOUT = timedelta(days=1)


@contextmanager
def open_gateway(
    options: TargetOptions, run: CommandRun, scope: str = "", plan: str = ""
) -> "Iterator[Gateway]":
    """Connect to the chosen server while the block runs.

    Nothing is sent before the first request, unless ``--dev`` starts the dev stack.
    ``scope`` is the manifest of an apply, and ``plan`` the digest of the saved plan that it
    applies: its parked requests are stored with them.

    Raises:
        UsageError: no server is named, the flags contradict each other, or ``--timeout`` is
            invalid.
        RefusedError: the manifest that the command read is not for this server.
    """
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.permissions import naming_missing_rules

    target = choose_target(options, run)
    if isinstance(options, ApprovingTargetOptions):
        policy = replace(_approval_policy(options, run, scope), plan=plan)
        gateway = Gateway(_approving_transport(target, run, policy, _timeout(options)))
    else:
        gateway = gateway_to(target, options, run)
    try:
        with naming_missing_rules(gateway):
            reach(run, gateway)
            yield gateway
    finally:
        if target.login is not None:
            end_own_login(target, gateway, run, lambda cluster: _has_parked(options, run, cluster))
        gateway.close()


def gateway_to(target: "Target", options: TargetOptions, run: CommandRun) -> "Gateway":
    """Return a gateway to a target that was chosen before; the caller closes it.

    Raises:
        UsageError: ``--timeout`` is invalid.
    """
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.http_transport import HttpTransport
    from skyflowctl.vault.waits import WaitMonitor

    waits = WaitMonitor(run.notice)
    timeout = _timeout(options)
    return Gateway(HttpTransport(target, run_id=run.id, timeout=timeout, waits=waits))


def reconnecting(
    options: TargetOptions, run: CommandRun, ask: "Callable[[Gateway], T]", *, again: bool
) -> "Callable[[], T]":
    """Return a function that asks the server over a connection of its own.

    So each call takes the newest login of a token file that an agent keeps.

    Args:
        options: the server and the login.
        run: of the command.
        ask: sends the requests.
        again: whether the function is called more than once.

    Raises:
        UsageError: the login comes from standard input, which can be read only once.
    """
    if again and options.token_file == "-":  # noqa: S105 - stands for standard input
        raise UsageError(
            "the login cannot come from standard input here",
            why="it is read again for every new token, because an agent may have replaced it",
            fix="give --token-file a file",
        )

    def call() -> "T":
        with open_gateway(options, run) as gateway:
            return ask(gateway)

    return call


def choose_target(options: TargetOptions, run: CommandRun, *, warn: bool = True) -> "Target":
    """Return the server and login that flags, environment or context name; ``--dev`` starts it.

    ``warn``: show the warnings about this choice.

    Raises:
        UsageError: none is named, its name is malformed, or ``--dev`` is given with another server.
    """
    if options.dev:
        return started_dev_target(options, run)
    from skyflowctl.vault.target import TargetFlags, resolve_target
    from skyflowctl.vault.waits import WaitMonitor

    flags = TargetFlags(
        address=options.address,
        namespace=options.namespace,
        token_file=options.token_file,
        ca_cert=options.ca_cert,
        ca_path=options.ca_path,
        client_cert=options.client_cert,
        client_key=options.client_key,
        tls_server_name=options.tls_server_name,
        skip_verify=options.skip_verify or None,
        nodes=tuple(options.nodes or ()),
        context=options.context,
    )
    context = chosen_context(options.address, options.context, run)
    with WaitMonitor(run.notice).watching("the login's token helper or file"):
        target = resolve_target(flags, os.environ, context)
        if target.source == "context" and context is not None and target.token is None:
            target = with_login(target, context, run)
    for warning in target.warnings if warn else ():
        run.warn(warning)
    return target


def server_is_named(options: TargetOptions) -> bool:
    """Return whether flags, environment or a context name a server.

    Raises:
        UsageError: there is no such context.
    """
    from skyflowctl.vault.environment import named_address

    if options.dev or options.address is not None or named_address(os.environ):
        return True
    return chosen_context(None, options.context) is not None


def connect_node(gateway: "Gateway") -> "Callable[[ClusterNode], Gateway | None]":
    """Return a function that connects to one node; None for a node that was not named."""
    from skyflowctl.vault.errors import RedirectRefusedError

    def connect(node: "ClusterNode") -> "Gateway | None":
        try:
            return gateway.node(node.api_address)
        except RedirectRefusedError:
            return None

    return connect


def _timeout(options: TargetOptions) -> float:
    """Return the timeout of one request in seconds: flag, environment, else 60."""
    from skyflowctl.vault.client_settings import client_timeout

    if options.timeout:
        return span_seconds(options.timeout, "--timeout", most=_LONGEST_TIMEOUT)
    return client_timeout(os.environ)


def _approval_policy(
    options: ApprovingTargetOptions, run: CommandRun, scope: str
) -> "ApprovalPolicy":
    """Return what a command does with parked requests; ``scope`` as for ``open_gateway``.

    Raises:
        UsageError: the time to wait or the file is invalid.
    """
    from skyflowctl.vault.approval_policy import ApprovalPolicy

    wait = timedelta()
    if options.wait_approval is not None:
        wait = timedelta(seconds=span_seconds(options.wait_approval, "--wait-approval"))
    required = isinstance(options, RequiringTargetOptions) and options.require_approval
    store = pending_store(options.pending)
    return ApprovalPolicy(store, wait, run.notice, scope, required=required)


def _approving_transport(
    target: "Target", run: CommandRun, policy: "ApprovalPolicy", timeout: float
) -> "ApprovingTransport":
    from skyflowctl.vault.approving_transport import ApprovingTransport

    return ApprovingTransport(target, run_id=run.id, policy=policy, timeout=timeout)


def _has_parked(options: TargetOptions, run: CommandRun, cluster: str) -> bool:
    """Return whether this run has parked a request that is stored."""
    file = options.pending if isinstance(options, ApprovingTargetOptions) else None
    return any(one.run == run.id for one in pending_store(file)(cluster).load())


def has_parked_of(plan: str, options: ApprovingTargetOptions, gateway: "Gateway") -> bool:
    """Return whether an apply of a saved plan parked a request that is stored here."""
    stored = pending_store(options.pending)(gateway.sys.cluster_id()).load()
    return any(one.plan == plan for one in stored)


def pending_store(file: str | None) -> "Callable[[str], PendingStore]":
    """Return a function that opens the store of a cluster's parked requests, given its id.

    Raises:
        UsageError: ``--pending`` names no file.
    """
    from skyflowctl.credentials.schemes import keyring
    from skyflowctl.vault.pending_store import FileStore, KeyringStore

    if file is None:
        return lambda cluster: KeyringStore(cluster, state_folder() / "pending", keyring)
    if file in {"", "-"}:
        raise UsageError(
            "--pending needs the path of a file",
            why="a parked request is stored there until the next run reads it",
            fix="for example --pending pending.json",
        )
    path = Path(file).absolute()
    return lambda _cluster: FileStore(path, state_folder() / PENDING_FILES)
