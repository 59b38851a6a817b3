"""Typed calls of an approver: what a parked request is, and its approval.

Measured on OpenBao 2.7.2: a login without an entity may send requests that others can approve; the
server refuses an approver's own request, a second approval, and any by a login without an entity
with 500; it answers a login in none of the approving groups, also the requester's, with 200 and
does not count it.
"""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

from skyflowctl.clock import parse_rfc3339
from skyflowctl.errors import RefusedError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.vault.errors import (
    BadRequestError,
    ForbiddenError,
    NamespaceMissingError,
    NotFoundError,
    VaultError,
)
from skyflowctl.vault.transport import Request, Transport

REQUEST = "sys/control-group/request"
# What servers without control groups answer with 400: OpenBao has 404, "unsupported path".
_ABSENT = ("unsupported path", "no handler for route", "enterprise-only")


@dataclass(frozen=True, slots=True)
class Requester:
    """Who sent a parked request; ``entity`` is empty for a login without one.

    Args:
        entity: the id of the entity.
        name: the name of the entity.
        logins: its logins, each as its method's type and its name there.
    """

    entity: str
    name: str
    logins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ParkedRequest:
    """A parked request, as the server shows it to an approver.

    Args:
        accessor: of its wrapping token.
        path: below ``/v1/``, in the namespace of the request.
        operation: of the server: create, update, patch, delete, read or list.
        fields: its body, with every secret in clear.
        requester: who sent it.
        approved: whether it has all its approvals.
        approvers: the entities that approved it: their ids and names.
    """

    accessor: str
    path: str
    operation: str
    fields: Mapping[str, Any] = field(repr=False)
    requester: Requester
    approved: bool
    approvers: Mapping[str, str]


def read_parked_request(transport: Transport, accessor: str) -> ParkedRequest:
    """Return a parked request.

    Raises:
        UsageError: the server holds no such request.
        RefusedError: the server has no control groups.
        VaultError: it cannot be read.
    """
    body = {"accessor": accessor}
    try:
        reply = transport.send(Request("POST", REQUEST, body=body, idempotent=True))
    except NotFoundError as error:
        raise _no_control_groups() from error
    except BadRequestError as error:
        raise _gone(accessor) from error
    data = reply.data or {}
    return ParkedRequest(
        accessor=accessor,
        path=str(data.get("request_path") or ""),
        operation=str(data.get("request_operation") or ""),
        fields=data.get("request_data") or {},
        requester=_requester(data.get("request_entity") or {}),
        approved=bool(data.get("approved")),
        approvers={
            str(one.get("entity_id")): str(one.get("entity_name") or one.get("entity_id"))
            for one in data.get("authorizations") or ()
        },
    )


def refuse_server_without_them(transport: Transport) -> None:
    """Refuse a server that has no control groups; nothing is changed.

    Raises:
        RefusedError: it has none.
    """
    try:
        found = has_control_groups(transport)
    except ForbiddenError:
        return  # a server checks permissions before it looks whether the path exists
    if found is False:
        raise _no_control_groups()


def has_control_groups(transport: Transport) -> bool | None:
    """Return whether a server has control groups, by a request for an accessor that cannot be.

    None: it answered that request, which every known server refuses.

    Raises:
        ForbiddenError: this login may not ask.
        VaultError: the request failed.
    """
    body = {"accessor": "none"}
    try:
        transport.send(Request("POST", REQUEST, body=body, idempotent=True))
    except NamespaceMissingError:
        raise
    except NotFoundError:
        return False
    except BadRequestError as error:
        return not any(error.says(text) for text in _ABSENT)
    return None


def send_approval(transport: Transport, accessor: str) -> None:
    """Approve a parked request; whether it counts is to be read back.

    Raises:
        RefusedError: the server did not accept it.
        VaultError: it cannot be sent.
    """
    where = "sys/control-group/authorize"
    try:
        transport.send(Request("POST", where, body={"accessor": accessor}))
    except BadRequestError as error:
        raise _gone(accessor) from error
    except ForbiddenError:
        raise
    except VaultError as error:
        why = next((text for text in _REASONS if error.says(text)), "")
        if not why:
            raise
        raise RefusedError(
            "the server did not accept the approval",
            why=why,
            fix=_REASONS[why],
            code="approval-refused",
        ) from error


_REASONS = {
    "token owner cannot be approver": "another approver must approve it",
    "approver has already authorized": "another approver must approve it, too",
    "empty entity ID": "log in with a login method, and approve it with that token",
}


def lifetime_of(transport: Transport, accessor: str) -> tuple[datetime, datetime] | None:
    """Return when a parked request was sent, and when it expires; None if it may not be asked."""
    where = "auth/token/lookup-accessor"
    try:
        reply = transport.send(Request("POST", where, body={"accessor": accessor}, idempotent=True))
        data = reply.data or {}
        return parse_rfc3339(str(data["issue_time"])), parse_rfc3339(str(data["expire_time"]))
    except (VaultError, KeyError, ValueError):
        return None


def _requester(raw: Mapping[str, Any]) -> Requester:
    aliases = raw.get("aliases") or ()
    logins = tuple(f"{one.get('mount_type')}/{one.get('name')}" for one in aliases)
    return Requester(str(raw.get("ID") or ""), str(raw.get("name") or ""), logins)


def _no_control_groups() -> RefusedError:
    return RefusedError(
        "this server has no control groups",
        why="it answers 404; OpenBao has them from 2.7 on, of Vault only Vault Enterprise",
        fix="upgrade the server; on this one, requests are not parked",
        code="no-control-groups",
    )


def _gone(accessor: str) -> UsageError:
    return UsageError(
        f"the server holds no request with the accessor {accessor}",
        why="it was withdrawn, it expired, or it is of another namespace; these look alike",
        fix="ask for the accessor that the requester's command printed; add -n for a namespace",
        code="no-such-request",
    )
