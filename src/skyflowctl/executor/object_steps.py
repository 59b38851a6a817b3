"""Executes the actions for objects that are read and written by their path alone."""

from collections.abc import Mapping
from typing import Any

from skyflowctl.credentials.model import CredentialSource
from skyflowctl.executor.access_steps import (
    check_written,
    differing,
    ignored_by_server,
    refuse_if_changed,
)
from skyflowctl.executor.secret_steps import resolved_value
from skyflowctl.planner import objects
from skyflowctl.planner.plan import Action, ActionType, ObjectKind
from skyflowctl.vault.errors import SilentlyIgnoredError
from skyflowctl.vault.system_api import SystemApi

_GENERATE = "/intermediate/generate/internal"
_SIGNED_BY = "signed_by"


def write_object(action: Action, server: SystemApi, credentials: CredentialSource) -> None:
    """Write an object with its secret fields, read it back, and note their version.

    The version is noted last, so that a run that was killed in between writes them again.

    Raises:
        UnresolvedReferenceError: a reference cannot be resolved; nothing is written.
        RefusedError: another client changed it after the plan was made.
        SilentlyIgnoredError: the server accepted the write but not all of its fields.
        VaultError: any other failure.
    """
    body = action.body
    before = _live(action, server)
    secret = {
        name: resolved_value(source, f"{name} of {action.path}", credentials)
        for name, source in body["secret"].items()
    }
    if not body["once"] or before is None:
        if not body["appears"]:
            refuse_if_changed(action, before)
        sent = {**body["fields"], **body["flags"], **secret}
        if action.kind is ObjectKind.NAMESPACE:
            server.access.write_namespace(action.path, sent, new=before is None)
            ignored: frozenset[str] = frozenset()
        elif _SIGNED_BY in sent:
            _sign_intermediate(action.path, sent, server)
            ignored = frozenset()
        else:
            ignored = server.access.write(action.path, sent) & sent.keys()
        if body["fields"] or body["once"]:
            _check_written(action, _live(action, server))
        if body["once"] and ignored:
            raise ignored_by_server(action, sorted(ignored))
    if body["options"]:
        server.access.write(f"{body['owner']}/tune", {"options": dict(body["options"])})


def _live(action: Action, server: SystemApi) -> dict[str, Any] | None:
    """Return the fields of the action that the server returns; None if there is no object."""
    fields: Mapping[str, Any] = action.body["fields"]
    if not action.body["once"] and not fields:  # the server returns nothing of it
        return {} if action.action is ActionType.UPDATE else None
    found = server.access.object(action.body["read_path"])
    if found is None:
        return None
    if action.body["once"]:
        return dict(fields)
    returned = (name for name in fields if objects.is_readable(found, name))
    return {name: objects.live_value(found, name) for name in returned}


def _check_written(action: Action, now: Mapping[str, Any] | None) -> None:
    """Raise if a field that was written is not returned, or has another value.

    Raises:
        SilentlyIgnoredError: the server took the write, but not all of its fields.
    """
    absent = [name for name in differing(action, now) if now is not None and name not in now]
    if absent:
        raise SilentlyIgnoredError(
            f"the server does not return {', '.join(absent)}: {action.path}",
            why="it accepted the write without them or keeps them to itself, so they cannot be "
            "compared",
            fix=objects.fix_of_not_readable(action.path, action.body["owner"]),
            path=action.path,
        )
    check_written(action, now)


def _sign_intermediate(path: str, fields: Mapping[str, Any], server: SystemApi) -> None:
    """Make a key and a request for it, have it signed, and store the certificate.

    Killed in between, the next run makes another key; the first one stays in the engine, unused.

    Raises:
        VaultError: a request failed.
    """
    engine = path.removesuffix(_GENERATE)
    asked = {name: value for name, value in fields.items() if name not in (_SIGNED_BY, "ttl")}
    request = server.access.exchange(path, asked)
    terms = {"csr": request["csr"], "use_csr_values": True, "format": "pem_bundle"}
    ttl = {"ttl": fields["ttl"]} if "ttl" in fields else {}
    signer = f"{fields[_SIGNED_BY]}/root/sign-intermediate"
    signed = server.access.exchange(signer, {**terms, **ttl, "common_name": fields["common_name"]})
    chain = {"certificate": signed["certificate"]}
    server.access.exchange(f"{engine}/intermediate/set-signed", chain)
