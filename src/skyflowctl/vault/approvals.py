"""Rules of parked requests: which may wait, and how a later run recognises them. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from skyflowctl.vault.call import OutgoingRequest
from skyflowctl.vault.guards import sends_guard_probe
from skyflowctl.vault.live import CREDENTIAL_FIELDS
from skyflowctl.vault.transport import READS, Reply

# The path of a write, and the path where its object can be read; "" if there is none.
_OBJECTS = (
    (re.compile(r"sys/mounts/(.+?)(?:/tune)?"), r"sys/mounts/\1"),
    (re.compile(r"(sys/plugins/catalog/secret/[^/]+)"), r"\1"),
    (re.compile(r"(sys/config/auditing/request-headers/[^/]+)"), r"\1"),
    (re.compile(r"(sys/policies/acl/.+)"), r"\1"),
    (re.compile(r"sys/auth/.+"), r"sys/auth"),
    (re.compile(r"(auth/.+/role/[^/]+)"), r"\1"),
    (re.compile(r"sys/plugins/reload/backend"), ""),
    (re.compile(r"sys/remount"), ""),
    (re.compile(r"(?!sys/)(.+)/config(?:/rollback|/commit)?"), r"\1/config"),
    (re.compile(r"(?!sys/)(.+)/config/history/\d+"), r"\1/config/history"),
    (re.compile(r"(?!sys/)(.+/roles/[^/]+)"), r"\1"),
    (re.compile(r"(?!sys/|auth/)(.+/metadata/.+)"), r"\1"),
)
_CREDS = re.compile(r"(?!sys/).+/creds/[^/]+")
# Fields that differ between two runs of the same command.
_OF_THE_RUN = frozenset({"cas", "cas_credential_version", "run"})


class RequestState(Enum):
    """The state of a parked request on the server."""

    WAITING = "waiting"
    APPROVED = "approved"
    GONE = "gone"  # withdrawn, expired or revoked: they look alike


def is_probe(call: OutgoingRequest) -> bool:
    """Whether a call is a guard probe."""
    return sends_guard_probe(call.content)


def is_creds(call: OutgoingRequest) -> bool:
    """Whether a call reads a token."""
    return bool(_CREDS.fullmatch(call.path)) and call.method in {"GET", "POST"}


def has_siblings(call: OutgoingRequest) -> bool:
    """Whether several calls with this path may wait at once: reads of creds, moves of mounts."""
    return is_creds(call) or call.path == "sys/remount"


def may_wait(call: OutgoingRequest) -> bool:
    """Whether a call may wait for an approval: a known write, or a read of creds."""
    if is_probe(call):
        return False
    return is_creds(call) or writes(call)


def writes(call: OutgoingRequest) -> bool:
    """Whether a call is a known write; a POST that changes nothing, such as verify, is not."""
    if is_probe(call):
        return True
    return call.method not in READS and any(one.fullmatch(call.path) for one, _ in _OBJECTS)


def written_object(path: str) -> str | None:
    """Return the path where a written object can be read; "" if nowhere; None for other calls."""
    for pattern, where in _OBJECTS:
        if match := pattern.fullmatch(path):
            return match.expand(where)
    return None


def written_part(path: str, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the part of a read that is the written object: one login method of the list."""
    if not path.startswith("sys/auth/"):
        return data
    name = path.removeprefix("sys/auth/").removesuffix("/tune")
    return data.get(f"{name}/")


def catalog_version(call: OutgoingRequest) -> str:
    """Return the version that a read of the written catalog entry must name; empty if none."""
    if not call.path.startswith("sys/plugins/catalog/"):
        return ""
    return str((call.params or {}).get("version") or sent_fields(call).get("version") or "")


def sent_fields(call: OutgoingRequest) -> Mapping[str, Any]:
    """Return the fields of a call's body."""
    found = json.loads(call.content) if call.content else {}
    return found if isinstance(found, dict) else {}


def body_digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value's canonical text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(call: OutgoingRequest) -> str:
    """Return the digest of a call without the fields that differ between runs."""
    skipped = _OF_THE_RUN
    if call.path.endswith("/config"):
        skipped |= {"rotation_id"}
    body = {name: value for name, value in sent_fields(call).items() if name not in skipped}
    params = {name: value for name, value in (call.params or {}).items() if name not in skipped}
    return body_digest([call.method, call.path, body, params])


def shows(data: Mapping[str, Any] | None, call: OutgoingRequest) -> bool | None:
    """Whether an object, as read, is in the state that a call would leave.

    None if the object does not show that, so that it is unknown whether the call ran.
    """
    if call.method == "DELETE":
        return _shows_deleted(data, call.path)
    if data is None:
        return False
    sent = sent_fields(call)
    if call.path.endswith("/config/commit"):
        rotation = data.get("rotation") or {}
        return rotation.get("id") == sent["rotation_id"] and rotation.get("state") != "open"
    if call.path.endswith("/config/rollback"):
        expected = sent.get("cas_credential_version")
        return None if expected is None else int(data.get("credential_version") or 0) > expected
    return _shows_fields(shown_fields(data, call.path), sent)


def _shows_deleted(data: Mapping[str, Any] | None, path: str) -> bool | None:
    if data is None:
        return True
    folder, _, version = path.rpartition("/")
    if folder.endswith("/config/history"):
        entry = (data.get("key_info") or {}).get(version)
        return entry is None or entry.get("kept") is False
    configured = data.get("credentials_configured")
    return None if configured is None else configured is False


def shown_fields(data: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """Return an object's fields under the names that a write uses."""
    if path.startswith("sys/config/auditing/request-headers/"):
        wanted = path.rpartition("/")[2].lower()
        return next((held for name, held in data.items() if name.lower() == wanted), {})
    if path.endswith("/tune"):
        return {**(data.get("config") or {}), **data}
    return data


def _shows_fields(data: Mapping[str, Any], sent: Mapping[str, Any]) -> bool | None:
    returned = {name for name in sent if name in data and name not in _OF_THE_RUN}
    if not all(_same(data[name], sent[name]) for name in returned):
        return False
    return None if not returned or sent.keys() & set(CREDENTIAL_FIELDS) else True


def _same(live: Any, sent: Any) -> bool:
    if isinstance(live, list) and isinstance(sent, list):
        return sorted(map(str, live)) == sorted(map(str, sent))
    if isinstance(live, Mapping) and isinstance(sent, Mapping):
        return all(str(live.get(name) or "") == str(value or "") for name, value in sent.items())
    return bool(live == sent)


def state_in(reply: Reply) -> RequestState:
    """Return the state in a reply of ``sys/control-group/request``."""
    approved = (reply.data or {}).get("approved")
    return RequestState.APPROVED if approved else RequestState.WAITING
