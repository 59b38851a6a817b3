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
POLICY_PATHS = ("sys/policies/acl/", "sys/policies/detailed/acl/", "sys/policy/")
"""Below them lie the policies."""
_MASK = "(hidden)"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LOGIN_ROLE = re.compile(r"auth/.+/role/[^/]+")
_CONFIG = _names(
    "description tags credentials_type client_id client_name key_id token_uri version cas reason "
    "credential_version cas_credential_version credentials_configured kept run rotation_id "
    "rotation_to rotation_keys validate_credentials allow_revoked_key last_updated "
    "credential_updated key_valid_after key_valid_before"
)
_ROLE = _names(
    "name role_ids description tags ctx_required ctx_pattern ctx_probe version cas created "
    "sign_max_ttl reuse_min_ttl reuse_per run"
)
_TOKENS = _names(
    "token_policies token_type token_ttl token_max_ttl token_period token_num_uses "
    "token_explicit_max_ttl token_bound_cidrs token_no_default_policy token_strictly_bind_ip "
    "policies ttl max_ttl period num_uses bound_cidrs"
)
_LOGIN = _TOKENS | _names(
    "name role_name role_type bound_audiences bound_claims bound_claims_type bound_subject "
    "bound_service_account_names bound_service_account_namespaces user_claim groups_claim "
    "claim_mappings oidc_scopes allowed_redirect_uris bind_secret_id secret_id_ttl audience "
    "secret_id_num_uses secret_id_bound_cidrs local_secret_ids clock_skew_leeway "
    "expiration_leeway not_before_leeway alias_name_source max_age"
)
_MOUNT = _names(
    "type description local seal_wrap external_entropy_access plugin_version accessor uuid config "
    "default_lease_ttl max_lease_ttl force_no_cache listing_visibility token_type plugin_name "
    "audit_non_hmac_request_keys audit_non_hmac_response_keys passthrough_request_headers "
    "allowed_response_headers running_plugin_version running_sha256 deprecation_status"
)
_GROUP = _names(
    "name id type policies disabled member_entity_ids member_group_ids canonical_id mount_accessor"
)
_KV = _names("max_versions cas_required delete_version_after")
# The fields that are shown of the server's own objects; every other field is hidden.
_OF_SERVER = (
    *((one, frozenset({"policy", "rules", "name"})) for one in POLICY_PATHS),
    ("identity/", _GROUP),
    ("sys/mounts/", _MOUNT),
    ("sys/auth/", _MOUNT),
    ("sys/remount", frozenset({"from", "to"})),
    ("sys/config/auditing/request-headers/", frozenset({"hmac"})),
    ("sys/plugins/catalog/secret/", _names("name type command args sha256 version")),
    ("sys/plugins/reload/backend", frozenset({"plugin", "mounts", "scope"})),
)
# Maps whose keys are the user's choice, and hold no secret.
_WHOLE = frozenset({"bound_claims", "claim_mappings", "ctx_probe"})


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


def names_of_server(path: str) -> frozenset[str] | None:
    """Return the fields of the server's own objects that may be shown; None for other paths."""
    for prefix, names in _OF_SERVER:
        if path.startswith(prefix):
            return names
    return _LOGIN if _LOGIN_ROLE.fullmatch(path) else None


def names_of_engine(path: str, mount: Mapping[str, Any], plugin: str) -> frozenset[str] | None:
    """Return the fields of an engine's object that may be shown; None if it is not known."""
    root = str(mount.get("path") or "").strip("/") + "/"
    kind, rest = mount.get("type"), path.removeprefix(root)
    if not path.startswith(root):
        return None
    if kind == "kv":
        return _KV if rest.startswith("metadata/") else None
    if kind == plugin and re.fullmatch(r"config(/rollback|/commit|/history/\d+)?", rest):
        return _CONFIG
    return _ROLE if kind == plugin and re.fullmatch(r"roles/[^/]+", rest) else None


def hidden_fields(names: frozenset[str] | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with everything hidden that is not known to be without a secret."""
    return {name: _hidden(names or frozenset(), name, one) for name, one in fields.items()}


def _hidden(names: frozenset[str], name: str, value: Any) -> Any:
    if value is None or (name in names and name in _WHOLE):
        return value
    if name not in names:
        return _MASK
    return hidden_fields(names, value) if isinstance(value, Mapping) else value
