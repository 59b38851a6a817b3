"""The dev stack's side of the composition root: ``--dev``, and recognising its server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import UsageError
from skyflowctl.vault.transport import Request

if TYPE_CHECKING:
    from skyflowctl.cli.options import TargetOptions
    from skyflowctl.credentials.errors import UnresolvedReferenceError
    from skyflowctl.credentials.model import Credential, CredentialId, CredentialSource
    from skyflowctl.devstack.layout import DevLayout
    from skyflowctl.manifest.model import Manifest, Reference
    from skyflowctl.operations.blocked_audit import AuditSuspects
    from skyflowctl.operations.dev_stack import DevUp
    from skyflowctl.secret import Secret
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.target import Target

_EXTRA = frozenset({"psutil", "trustme", "certifi", "hpack"})


@contextmanager
def devstack_extra() -> Iterator[None]:
    """Turn a missing library of the ``devstack`` extra into an error with the install command.

    Raises:
        UsageError: a library that only the dev stack needs is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        raise UsageError(
            "the dev stack is not installed",
            why=f"{error.name} is missing",
            fix="pip install 'skyflowctl[devstack]'",
        ) from None


def start_dev_stack(
    manifest: "Manifest | None", run: CommandRun, *, persist: bool = False
) -> "DevUp":
    """Start or reuse the dev stack, with progress on stderr; ``persist``: its data on disk."""
    with devstack_extra():
        from skyflowctl.operations.dev_stack import bring_up as start

        return start(
            os.environ,
            manifest,
            lambda target: _gateway(target, run),
            run.notice,
            persist=persist,
        )


def started_dev_target(options: "TargetOptions", run: CommandRun) -> "Target":
    """Return the dev stack as a target, started if it does not run.

    Raises:
        UsageError: ``--dev`` is given with flags that name another server.
    """
    others = {
        "--address": options.address,
        "--context": options.context,
        "--token-file": options.token_file,
    }
    for flag, value in others.items():
        if value is not None:
            raise UsageError(
                f"--dev and {flag} name two servers",
                why="the dev stack has its own address and its own login",
                fix=f"leave out one of the two: --dev or {flag}",
                code="two-targets",
            )
    up = start_dev_stack(None, run)
    from skyflowctl.operations.dev_stack import running_dev_target as target_of

    return target_of(up.layout, up.state)


def credential_source(
    gateway: "Gateway", manifest: "Manifest", own: "CredentialSource"
) -> "CredentialSource":
    """Return the source of the manifest's credentials for the server that answers.

    For a dev server they are generated, and no reference is resolved; for any other server it is
    ``own``.

    Raises:
        RefusedError: it is a dev server whose folder is not known here.
    """
    layout = dev_layout(gateway)
    if layout is None:
        return own
    with devstack_extra():
        from skyflowctl.devstack.credentials import DevCredentials

        return DevCredentials(layout, manifest)


def dev_layout(gateway: "Gateway") -> "DevLayout | None":
    """Return the dev folder of the server that answers, or None for a real one.

    One request without a token's rights: ``sys/health``.

    Raises:
        VaultError: the server serves no requests: it is sealed, a disaster recovery
            secondary, or in another such state.
        RefusedError: it is a dev server whose folder is not known here.
    """
    from skyflowctl.devstack.recognise import DEV_HEADER, recognise
    from skyflowctl.vault.server_state import refuse_not_serving, server_state

    codes = {"standbycode": "200", "sealedcode": "200", "uninitcode": "200"}
    reply = gateway.transport.send(Request("GET", "sys/health", params=codes))
    refuse_not_serving(server_state(reply.status, reply.body))
    cluster_id = str(reply.body.get("cluster_id") or "")
    return recognise(cluster_id, reply.headers.get(DEV_HEADER.lower(), ""), os.environ)


def with_audit_devices(gateway: "Gateway", source: "CredentialSource") -> "Gateway":
    """Return a gateway that can enable audit devices if the server is a dev stack."""
    from skyflowctl.credentials.sources import ManifestSource

    if isinstance(source, ManifestSource):
        return gateway
    with devstack_extra():
        from skyflowctl.devstack.audit_devices import ReloadingTransport
        from skyflowctl.devstack.credentials import DevCredentials
        from skyflowctl.vault.gateway import Gateway as OpenedGateway

        if not isinstance(source, DevCredentials):
            return gateway
        return OpenedGateway(ReloadingTransport(gateway.transport, source.layout))


def layout_of(address: str) -> "DevLayout | None":
    """Return the dev folder of the server at this address, or None; sends no request."""
    from skyflowctl.devstack.layout import find_layout
    from skyflowctl.devstack.recognise import is_address_of_dev_stack

    return find_layout(os.environ) if is_address_of_dev_stack(address, os.environ) else None


def audit_suspects(address: str, manifest: "Manifest | None") -> "AuditSuspects":
    """Return what is known here about the audit devices of the server at this address."""
    from skyflowctl.operations.blocked_audit import AuditSuspects, is_here

    found = manifest.objects if manifest else ()
    declared = tuple(one for one in found if one.kind == "audit_device")
    layout = layout_of(address)
    if layout:
        from skyflowctl.devstack.stand_ins import device_stand_in

        declared = tuple(device_stand_in(one, layout) for one in declared)
    return AuditSuspects(declared, is_here(address), layout.server_log if layout else None)


def dev_stack_is_named() -> bool:
    """Return whether the environment's server is the dev stack, as after ``dev env``."""
    from skyflowctl.devstack.recognise import is_address_of_dev_stack
    from skyflowctl.vault.environment import named_address

    return is_address_of_dev_stack(named_address(os.environ), os.environ)


class NoCredentials:
    """References that are never resolved, because the named server is the dev stack; a
    ``CredentialSource`` that needs a throw-away key for every mount."""

    def identify(self, mount: str, live: "CredentialId | None") -> "CredentialId":  # noqa: ARG002 - the port's signature
        """Raise UnresolvedReference."""
        return self.resolve(mount).id

    def resolve(self, mount: str) -> "Credential":
        """Raise UnresolvedReference."""
        raise _not_resolved(f"the credential of {mount}")

    def secret(self, reference: "Reference", subject: str) -> "Secret":  # noqa: ARG002 - the port's signature
        """Raise UnresolvedReference."""
        raise _not_resolved(subject)

    def prepare_apply(self) -> None:
        """Do nothing: there is no credential to prepare."""


def _not_resolved(subject: str) -> "UnresolvedReferenceError":
    from skyflowctl.credentials.errors import UnresolvedReferenceError

    return UnresolvedReferenceError(
        f"{subject} is not resolved",
        why="the dev stack is the server, and against it no reference is followed",
        fix="unset BAO_ADDR and VAULT_ADDR to try your own credential",
        code="dev-stack-named",
    )


def refuse_direct() -> UsageError:
    """Return the error of ``creds --direct`` for the dev stack."""
    return UsageError(
        "--direct is not for the dev stack",
        why="it would use your real credential, and against the dev stack no reference is followed",
        fix="unset BAO_ADDR and VAULT_ADDR, or leave out --direct",
        code="dev-stack-named",
    )


def _gateway(target: "Target", run: CommandRun) -> "Gateway":
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.http_transport import HttpTransport
    from skyflowctl.vault.waits import WaitMonitor

    return Gateway(HttpTransport(target, run_id=run.id, waits=WaitMonitor(run.notice)))
