"""Which requests may wait for an approval, and what they are known by: pure rules."""

import hashlib
import json
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from skyflowctl.vault.call import Call
from skyflowctl.vault.parked import READS
from skyflowctl.vault.transport import Reply, Transport, encode_body

GUARD_PROBE: Mapping[str, Any] = {"skyflowctl_guard_probe": True}
"""A body that no path takes: an engine says 400, and a guarded path parks it."""

# A path that is written, and the one where what it changes can be read. "" is nothing.
_OBJECTS = (
    (re.compile(r"sys/mounts/(.+?)(?:/tune)?"), r"sys/mounts/\1"),
    (re.compile(r"(sys/plugins/catalog/secret/[^/]+)"), r"\1"),
    (re.compile(r"(sys/config/auditing/request-headers/[^/]+)"), r"\1"),
    (re.compile(r"sys/plugins/reload/backend"), ""),
    (re.compile(r"(?!sys/)(.+)/config(?:/rollback|/commit)?"), r"\1/config"),
    (re.compile(r"(?!sys/)(.+)/config/history/\d+"), r"\1/config/history"),
    (re.compile(r"(?!sys/)(.+/roles/[^/]+)"), r"\1"),
)
_CREDS = re.compile(r"(?!sys/).+/creds/[^/]+")
# What differs from run to run though the same is wanted.
_OF_THE_RUN = frozenset({"cas", "cas_credential_version", "run"})


_PROBE_CONTENT = encode_body(GUARD_PROBE)


@runtime_checkable
class ProbesGuards(Protocol):
    """A transport to a server that may have control groups."""

    def refuse_guarded(self, method: str, path: str) -> None:
        """Refuse to send a secret to a path whose approvers would see it.

        Raises:
            GuardedError: a control group guards it; nothing was written.
        """


def refuse_guarded(transport: Transport, method: str, path: str) -> None:
    """Refuse a secret as :meth:`ProbesGuards.refuse_guarded`; a server in memory has no guards."""
    if isinstance(transport, ProbesGuards):
        transport.refuse_guarded(method, path)


class RequestState(Enum):
    """What the server knows of a parked request."""

    WAITING = "waiting"
    APPROVED = "approved"
    GONE = "gone"  # withdrawn, expired or revoked: they look alike


def is_probe(call: Call) -> bool:
    """Whether a call only asks whether its path is guarded."""
    return call.content == _PROBE_CONTENT


def is_creds(call: Call) -> bool:
    """Whether a call reads a token."""
    return bool(_CREDS.fullmatch(call.path)) and call.method in {"GET", "POST"}


def may_wait(call: Call) -> bool:
    """Whether a call can be kept until it is approved: a known write, or creds."""
    if is_probe(call):
        return False
    return is_creds(call) or (call.method not in READS and written_object(call) is not None)


def written_object(call: Call) -> str | None:
    """Return where what a write changes is read; "": nowhere; None: it is no known write."""
    for pattern, where in _OBJECTS:
        if match := pattern.fullmatch(call.path):
            return match.expand(where)
    return None


def read_params(call: Call) -> Mapping[str, str] | None:
    """Return the query that a read of the written object needs."""
    version = (call.params or {}).get("version") or sent_fields(call).get("version")
    in_catalog = call.path.startswith("sys/plugins/catalog/")
    return {"version": str(version)} if in_catalog and version else None


def sent_fields(call: Call) -> Mapping[str, Any]:
    """Return the fields of a call's body."""
    found = json.loads(call.content) if call.content else {}
    return found if isinstance(found, dict) else {}


def digest(value: Any) -> str:
    """Return what is the same for equal JSON values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(call: Call) -> str:
    """Return what is the same for two calls that want the same, whichever run sends them."""
    skipped = _OF_THE_RUN
    if call.path.endswith("/config"):
        skipped |= {"rotation_id"}
    body = {name: value for name, value in sent_fields(call).items() if name not in skipped}
    params = {name: value for name, value in (call.params or {}).items() if name not in skipped}
    return digest([call.method, call.path, body, params, call.wraps])


def shows(data: Mapping[str, Any] | None, call: Call) -> bool:
    """Whether an object, as it was read, is what a call would have made of it."""
    if call.method == "DELETE":
        return data is None or data.get("credentials_configured") is False
    if data is None:
        return False
    sent = sent_fields(call)
    told = {name for name in sent if name in data and name not in _OF_THE_RUN}
    return bool(told) and all(_same(data[name], sent[name]) for name in told)


def _same(live: Any, sent: Any) -> bool:
    if isinstance(live, list) and isinstance(sent, list):
        return sorted(map(str, live)) == sorted(map(str, sent))
    if isinstance(live, Mapping) and isinstance(sent, Mapping):
        return all(str(live.get(name) or "") == str(value or "") for name, value in sent.items())
    return bool(live == sent)


def state_in(reply: Reply) -> RequestState:
    """Return the state that ``sys/control-group/request`` tells."""
    approved = (reply.data or {}).get("approved")
    return RequestState.APPROVED if approved else RequestState.WAITING


def approvers_in(reply: Reply) -> tuple[str, ...]:
    """Return who has approved, as the server names them."""
    listed = (reply.data or {}).get("authorizations") or ()
    return tuple(str(one.get("entity_name") or one.get("entity_id") or "") for one in listed)
