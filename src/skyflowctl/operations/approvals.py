"""``approvals``: the requests of this machine, and what another login's request would change.

The difference is computed from the live object; nothing of it comes from the requester.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from skyflowctl.clock import rfc3339
from skyflowctl.errors import NotPermittedError, Problem, RefusedError, SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.discover import DEFAULT_PLUGIN
from skyflowctl.planner.policy_text import policy_fields
from skyflowctl.vault import approvals as rules
from skyflowctl.vault.control_groups import (
    REQUEST,
    ParkedRequest,
    lifetime_of,
    read_parked_request,
    send_approval,
)
from skyflowctl.vault.errors import BadRequestError, ForbiddenError, NotFoundError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.namespaces import namespace_of
from skyflowctl.vault.pending_store import PendingStore, StoredRequest
from skyflowctl.vault.transport import Request

_UNREAD = "(not read)"
_READS = frozenset({"read", "list"})
_NOT_STATE = frozenset(
    {"cas", "cas_credential_version", "validate_credentials", "rotation_id", "run"}
)


@dataclass(frozen=True, slots=True)
class RequestedChange:
    """One field that a request would change; secrets are masked."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ReviewedRequest:
    """A request with what it would change now.

    Args:
        held: the request.
        fields: its fields, secrets masked.
        changes: what it would change in the live object.
        compared: whether an update was compared with the live object.
        effect: what it does, where the changes do not say it; empty otherwise.
        sent_at: when it was sent; None if that may not be asked.
        expires_at: when it expires; None if that may not be asked.
        warnings: what could not be found out, and why the request may fail.
    """

    held: ParkedRequest
    fields: Mapping[str, Any]
    changes: tuple[RequestedChange, ...]
    compared: bool
    effect: str
    sent_at: datetime | None
    expires_at: datetime | None
    warnings: tuple[Problem, ...]

    def to_json(self, now: datetime) -> dict[str, Any]:
        """Return the published form."""
        held = self.held
        return {
            "accessor": held.accessor,
            "path": held.path,
            "operation": held.operation,
            "requester": {
                "entity_id": held.requester.entity,
                "name": held.requester.name,
                "logins": list(held.requester.logins),
            },
            "approved": held.approved,
            "approved_by": sorted(held.approvers.values()),
            "sent_at": rfc3339(self.sent_at) if self.sent_at else None,
            "age_seconds": _seconds(self.sent_at, now),
            "expires_at": rfc3339(self.expires_at) if self.expires_at else None,
            "ttl": _seconds(now, self.expires_at),
            "fields": dict(self.fields),
            "compared": self.compared,
            "effect": self.effect,
            "changes": [
                {"field": one.field, "before": one.before, "after": one.after}
                for one in self.changes
            ],
        }


def list_stored(gateway: Gateway, store: PendingStore) -> list[dict[str, Any]]:
    """Return the requests that this machine stored, each with its state on the server."""
    cluster = gateway.sys.cluster_id()
    return [
        {
            "accessor": one.accessor,
            "method": one.method,
            "path": one.path,
            "namespace": one.namespace,
            "run": one.run,
            "manifest": one.scope,
            "expires_at": one.expires_at,
            "stored": store.kind,
            "state": _state(gateway, one) if one.cluster == cluster else "of another server",
        }
        for one in store.load()
    ]


def _state(gateway: Gateway, stored: StoredRequest) -> str:
    """Return waiting, approved, gone or unknown."""
    if namespace_of(stored.path, gateway.transport.server.namespace) != stored.namespace:
        return "unknown"
    body = {"accessor": stored.accessor}
    try:
        reply = gateway.transport.send(Request("POST", REQUEST, body=body, idempotent=True))
    except BadRequestError:
        return rules.RequestState.GONE.value
    except (ForbiddenError, NotFoundError):
        return "unknown"
    return rules.state_in(reply).value


def review_request(gateway: Gateway, accessor: str) -> ReviewedRequest:
    """Return another login's request, with the difference that it makes to the live state.

    Raises:
        UsageError: the server holds no such request.
        RefusedError: the server has no control groups.
        VaultError: it cannot be read.
    """
    held = read_parked_request(gateway.transport, accessor)
    times = lifetime_of(gateway.transport, accessor)
    warnings = [] if times else [_TIMES_UNKNOWN]
    names = _shown_names(gateway, held.path)
    fields = rules.hidden_fields(names, held.fields)
    changes = tuple(RequestedChange(name, _UNREAD, one) for name, one in fields.items())
    compared, effect = False, _effect_unread(held)
    where = "" if names is None else _readable(held)
    try:
        if held.path.endswith("/config/rollback") and where:
            changes = (_rolled_back(gateway, held, where),)
            effect = ""
        elif where:
            live = _live_object(gateway, held, where)
            changes = tuple(_changes(held, live, names or frozenset()))
            compared = held.operation != "delete" and live is not None
            effect = "" if compared else _effect_read(held)
            warnings += _stale(held, live)
        elif held.operation not in _READS:
            warnings.append(_not_compared(held, "it is no object that this command reads"))
    except SkyflowctlError as error:
        warnings.append(_not_compared(held, error.problems[0].summary))
    return ReviewedRequest(
        held=held,
        fields=fields,
        changes=changes,
        compared=compared,
        effect=effect,
        sent_at=times[0] if times else None,
        expires_at=times[1] if times else None,
        warnings=tuple(warnings),
    )


def refuse_approval(gateway: Gateway, found: ReviewedRequest) -> str:
    """Return the entity of this login, which may approve the request.

    Raises:
        NotPermittedError: this login has no entity.
        RefusedError: this login sent the request, it is unknown who did, or its object changed.
    """
    held = found.held
    if stale := [one for one in found.warnings if one.code == "request-is-stale"]:
        raise RefusedError.of(stale)
    own = gateway.sys.own_login().entity
    if not own:
        raise NotPermittedError(
            "this login cannot approve requests",
            why="its token has no entity, so it stands for no person",
            fix="log in with a login method, such as userpass or oidc, and approve it with that",
            code="no-entity",
        )
    if not held.requester.entity:
        raise RefusedError(
            "the request was not approved: it is unknown who sent it",
            why="its token has no entity, so it may be your own",
            fix="have it sent again by a login of a login method",
            code="requester-without-entity",
        )
    if own == held.requester.entity:
        raise RefusedError(
            "the request was not approved: you sent it yourself",
            why=f"the entity {held.requester.name} of this login is the requester's",
            fix="ask another approver to approve it",
            code="self-approval",
        )
    return own


def approve_request(gateway: Gateway, held: ParkedRequest, own: str) -> ParkedRequest:
    """Approve a request, and return it as it then is.

    Raises:
        NotPermittedError: this login is in no group that may approve it.
        RefusedError: the server did not accept the approval.
        UsageError: the request is gone.
    """
    send_approval(gateway.transport, held.accessor)
    after = read_parked_request(gateway.transport, held.accessor)
    if own not in after.approvers:
        raise NotPermittedError(
            "the approval does not count",
            why="this login is in none of the groups that may approve the request",
            fix="ask a member of one of these groups, or have yours added to one",
            code="not-an-approver",
        )
    return after


def _shown_names(gateway: Gateway, path: str) -> frozenset[str] | None:
    """Return the fields of a path that may be shown; None for an object that is not known."""
    if names := rules.names_of_server(path):
        return names
    if path.startswith(("sys/", "auth/")) or rules.written_object(path) is None:
        return None
    try:
        request = Request("GET", f"sys/internal/ui/mounts/{path}")
        mount = gateway.transport.send(request).data or {}
    except SkyflowctlError:
        return None
    return rules.names_of_engine(path, mount, DEFAULT_PLUGIN)


def _readable(held: ParkedRequest) -> str:
    """Return the path where the object of a write is read; empty if it is read nowhere."""
    if held.operation in _READS or held.path.endswith("/config/commit"):
        return ""
    for prefix in rules.POLICY_PATHS:
        if held.path.startswith(prefix):
            return f"sys/policies/acl/{held.path.removeprefix(prefix)}"
    return rules.written_object(held.path) or ""


def _live_object(gateway: Gateway, held: ParkedRequest, where: str) -> Mapping[str, Any] | None:
    """Return the object that a request is about; None if it does not exist."""
    history = where.endswith("/config/history")
    try:
        reply = gateway.transport.send(Request("LIST" if history else "GET", where, fresh=True))
    except NotFoundError:
        return None
    except BadRequestError as error:
        if error.says("No secret engine mount") or error.says("mount not configured"):
            return None
        raise
    data = reply.data or {}
    if history:
        return (data.get("key_info") or {}).get(held.path.rpartition("/")[2])
    return rules.written_part(held.path, data)


def _rolled_back(gateway: Gateway, held: ParkedRequest, where: str) -> RequestedChange:
    """Return which key becomes live, as far as the history shows it."""
    live = gateway.transport.send(Request("GET", where, fresh=True)).data or {}
    reply = gateway.transport.send(Request("LIST", f"{where}/history", fresh=True))
    entries = {int(one): entry for one, entry in ((reply.data or {}).get("key_info") or {}).items()}
    earlier = sorted(entries)
    if live.get("credentials_configured"):
        earlier = earlier[:-1]
    wanted = held.fields.get("credential_version") or (earlier[-1] if earlier else 0)
    after = entries.get(wanted, {}) if isinstance(wanted, int) else {}
    key = after.get("key_id") if after.get("kept") is not False else None
    return RequestedChange("key_id", live.get("key_id"), key or "(not shown by the history)")


def _effect_unread(held: ParkedRequest) -> str:
    if held.operation == "delete":
        return f"deletes {held.path}; its content was not read"
    if held.operation in _READS:
        return f"reads {held.path}"
    if held.path.endswith("/config/rollback"):
        return "rolls the credential back; which key becomes live is not shown"
    return f"writes {held.path}; it was not compared with the live state"


def _effect_read(held: ParkedRequest) -> str:
    return f"{'deletes' if held.operation == 'delete' else 'creates'} {held.path}"


def _changes(
    held: ParkedRequest, live: Mapping[str, Any] | None, names: frozenset[str]
) -> Iterator[RequestedChange]:
    if held.path.startswith(rules.POLICY_PATHS):
        yield from _policy_changes(held, live)
        return
    if held.operation == "delete":
        gone = {name: one for name, one in (live or {}).items() if one not in (None, "", [], {})}
        for name, one in rules.hidden_fields(names, gone).items():
            yield RequestedChange(name, one, None)
        return
    now = rules.shown_fields(live or {}, held.path)
    before, after = rules.hidden_fields(names, now), rules.hidden_fields(names, held.fields)
    for name in held.fields:
        same = name in names and now.get(name) == held.fields[name]
        if name not in _NOT_STATE and not same:
            yield RequestedChange(name, before.get(name), after[name])


def _policy_changes(
    held: ParkedRequest, live: Mapping[str, Any] | None
) -> Iterator[RequestedChange]:
    """Yield the rules that differ: by meaning, so that a changed guard stands out."""
    found = live or {}
    before = policy_fields(str(found.get("policy") or found.get("rules") or "")) if live else {}
    text = held.fields.get("policy") or held.fields.get("rules") or ""
    after = {} if held.operation == "delete" else policy_fields(str(text))
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield RequestedChange(name, before.get(name), after.get(name))


def _stale(held: ParkedRequest, live: Mapping[str, Any] | None) -> Iterator[Problem]:
    for name, of_live in (("cas", "version"), ("cas_credential_version", "credential_version")):
        expected, found = held.fields.get(name), (live or {}).get(of_live) or 0
        if expected is not None and expected != found:
            yield Problem(
                "request-is-stale",
                f"{held.path} changed after the request was sent",
                f"it was sent for {of_live} {expected}, and {found} is live: the engine refuses it",
                "do not approve it: ask for a new request",
            )


_TIMES_UNKNOWN = Problem(
    "request-times-unknown",
    "it is not known when the request was sent and when it expires",
    "this login may not ask for that",
    'add to its policy: path "auth/token/lookup-accessor" { capabilities = ["update"] }',
)


def _not_compared(held: ParkedRequest, why: str) -> Problem:
    return Problem(
        "request-not-compared",
        f"what the request changes is not known: {held.path} was not read",
        why,
        "approve it only if you may read what it changes",
    )


def _seconds(since: datetime | None, until: datetime | None) -> int | None:
    return None if since is None or until is None else int((until - since).total_seconds())
