"""Computes the desired and live values of managed fields, and compares them.

The names are those of the server's and the engine's APIs, so that a change can be sent
unmodified: a plan's ``body`` is a subset of these fields.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from skyflowctl.clock import parse_duration
from skyflowctl.engine.names import PER_ENTITY, SIGN_MAX_TTL
from skyflowctl.manifest.model import Manifest, Mount, Role
from skyflowctl.planner.plan import Change
from skyflowctl.vault.live import LiveConfig, LiveMount, LiveRole

MANAGED_BY = "skyflowctl"
AUDITED_HEADERS = ("X-Skyflowctl-Run", "Application-Source")
# The server hands a plugin only the headers of this list. Traceparent is not audited: the request
# id, which span and audit log both have, joins them.
PASSED_HEADERS = (*AUDITED_HEADERS, "Traceparent")
PLAIN_RESPONSE_KEYS = ("credential_version", "expires_at", "key_id")

_HEADER_LISTS = frozenset({"passthrough_request_headers"})
_CIDRS = frozenset({"secret_id_bound_cidrs", "token_bound_cidrs"})
_SETS = (
    _HEADER_LISTS
    | _CIDRS
    | {
        "allowed_common_names",
        "allowed_dns_sans",
        "allowed_uri_sans",
        "audit_non_hmac_request_keys",
        "audit_non_hmac_response_keys",
        "bound_audiences",
        "bound_service_account_names",
        "bound_service_account_namespaces",
        "jwt_validation_pubkeys",
        "role_ids",
        "tags",
        "token_policies",
    }
)


def managed_tag(manifest_id: str) -> str:
    """Return the tag that marks a role or config as this manifest's."""
    return f"managed-by:{MANAGED_BY}/{manifest_id}"


def adopted_tag(manifest_id: str) -> str:
    """Return the tag that marks a role or config as adopted by this manifest."""
    return f"adopted-by:{MANAGED_BY}/{manifest_id}"


def tags_owner(manifest_id: str, tags: Sequence[str]) -> str | None:
    """Return the id of the manifest that tagged an object; None for this one, empty for none."""
    if managed_tag(manifest_id) in tags:
        return None
    mark = managed_tag("")
    return next((tag.removeprefix(mark) for tag in tags if tag.startswith(mark)), "")


def mount_is_adopted(mount: LiveMount) -> bool:
    """Whether a manifest took the mount over instead of creating it."""
    return mount.options.get("adopted") == "true"


def mount_is_protected(mount: LiveMount) -> bool:
    """Whether its manifest protected the mount when it was last applied."""
    return mount.options.get("protect") == "true"


def wanted_mount(manifest: Manifest, mount: Mount) -> dict[str, Any]:
    """Return a mount's desired fields; those of ``options`` have dotted names."""
    return {
        "description": mount.description,
        "options.managed_by": MANAGED_BY,
        "options.manifest": manifest.id,
        "options.protect": "true" if mount.protect else "",
        "passthrough_request_headers": list(PASSED_HEADERS),
        "audit_non_hmac_request_keys": ["ctx"] if mount.plain_ctx else [],
        "audit_non_hmac_response_keys": list(PLAIN_RESPONSE_KEYS),
    }


def live_mount(mount: LiveMount) -> dict[str, Any]:
    """Return the same fields as they are on the server, and the files that made the mount."""
    return {
        "description": mount.description,
        "options.managed_by": mount.options.get("managed_by"),
        "options.manifest": mount.options.get("manifest"),
        "options.protect": mount.options.get("protect"),
        "options.files": mount.options.get("files"),
        "passthrough_request_headers": list(mount.passthrough_request_headers),
        "audit_non_hmac_request_keys": list(mount.audit_non_hmac_request_keys),
        "audit_non_hmac_response_keys": list(mount.audit_non_hmac_response_keys),
    }


def wanted_role(manifest: Manifest, role: Role, live: LiveRole | None = None) -> dict[str, Any]:
    """Return a role's desired fields. ``ctx_required`` is the effective value and always sent.

    A live role without this manifest's mark is also marked as adopted.
    """
    wanted = {
        "role_ids": [role.role_id],
        "description": role.description,
        "tags": _with_mark(role.tags, manifest.id, live),
        "ctx_required": role.ctx.required,
        "ctx_pattern": role.ctx.pattern,
        "ctx_probe": _plain(role.ctx.probe),
    }
    if role.sign_max_ttl != SIGN_MAX_TTL or (live and live.sign_max_ttl not in {0, SIGN_MAX_TTL}):
        # An engine that cannot sign refuses the field: it is sent only where it says something.
        wanted["sign_max_ttl"] = role.sign_max_ttl
    if role.reuse_min_ttl or (live and live.reuse_min_ttl):
        # As above, for an engine that reuses no tokens.
        wanted |= {"reuse_min_ttl": role.reuse_min_ttl, "reuse_per": role.reuse_per}
    return wanted


def live_role(role: LiveRole) -> dict[str, Any]:
    """Return the same fields as they are in the engine."""
    return {
        "role_ids": list(role.role_ids),
        "description": role.description,
        "tags": list(role.tags),
        "ctx_required": role.ctx_required,
        "ctx_pattern": role.ctx_pattern,
        "ctx_probe": _plain(role.ctx_probe),
        "sign_max_ttl": role.sign_max_ttl or SIGN_MAX_TTL,
        "reuse_min_ttl": role.reuse_min_ttl,
        "reuse_per": role.reuse_per or PER_ENTITY,
    }


def wanted_config(
    manifest: Manifest, mount: Mount, live: LiveConfig | None = None
) -> dict[str, Any]:
    """Return a config's desired fields, except the credential, with the same marks as a role."""
    return {
        "description": mount.description,
        "tags": _with_mark(mount.tags, manifest.id, live),
    }


def live_config(config: LiveConfig) -> dict[str, Any]:
    """Return the same fields as they are in the engine."""
    return {"description": config.description, "tags": list(config.tags)}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return a change for every desired field whose live value differs."""
    return tuple(
        Change(name, before.get(name), value)
        for name, value in after.items()
        if not same(name, before.get(name), value)
    )


def all_new(after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the changes that create an object, without empty fields."""
    return tuple(
        Change(name, None, value) for name, value in after.items() if value not in ("", [], False)
    )


def same(name: str, left: Any, right: Any) -> bool:
    """Return whether two values of a field are equal in meaning.

    Lists compare as sets, header names compare without case, CIDRs compare as networks (the
    server returns a single address without its mask), and a field that the server omits counts
    as empty. Values of different types are equal in the forms that servers accept for one
    another: ``"24h"`` and 86400, ``"a,b"`` and ``["a", "b"]``, ``"5"`` and 5, a map and its JSON.
    """
    if name in _SETS:
        return _as_set(name, left) == _as_set(name, right)
    if isinstance(left, str) != isinstance(right, str):
        text, other = (left, right) if isinstance(left, str) else (right, left)
        return _text_means(text, other)
    return bool(_comparable(left) == _comparable(right))


def _text_means(text: str, other: Any) -> bool:
    """Whether a text is another form of a value of another type."""
    if isinstance(other, bool):
        return text.lower() == str(other).lower() or not (text or other)
    if isinstance(other, int | float):
        return text == str(other) or (not text and not other) or _seconds(text) == other
    if isinstance(other, list):
        return [part.strip() for part in text.split(",") if part.strip()] == other
    if isinstance(other, Mapping):
        return bool(_from_json(text) == dict(other))
    return not text and not other


def _from_json(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except ValueError:
        return None


def _seconds(text: str) -> float | None:
    try:
        return parse_duration(text).total_seconds()
    except (ValueError, OverflowError):
        return None


def as_body(changes: Iterable[Change]) -> dict[str, Any]:
    """Return the patch for these changes, with dotted names converted to nested fields."""
    body: dict[str, Any] = {}
    for change in changes:
        outer, dot, inner = change.field.partition(".")
        if dot:
            body.setdefault(outer, {})[inner] = change.after
        else:
            body[outer] = change.after
    return body


def _as_set(name: str, values: Sequence[str] | None) -> frozenset[str]:
    return frozenset(_element(name, value) for value in values or ())


def _element(name: str, value: str) -> str:
    if name in _HEADER_LISTS:
        return value.lower()
    return _network(value) if name in _CIDRS else value


def _network(text: str) -> str:
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return text


def _comparable(value: Any) -> Any:
    """Return a value for comparison: empty values are equal, and ``true`` differs from ``1``."""
    if isinstance(value, Mapping) and value:
        return frozenset((key, _comparable(inner)) for key, inner in value.items())
    if isinstance(value, list):
        value = tuple(map(_comparable, value))
    return (isinstance(value, bool) and value, value or None)


def _with_mark(
    tags: Sequence[str], manifest_id: str, live: LiveRole | LiveConfig | None
) -> list[str]:
    marks = [managed_tag(manifest_id)]
    if live is not None:
        adopted = adopted_tag(manifest_id)
        if adopted in live.tags or tags_owner(manifest_id, live.tags) is not None:
            marks.append(adopted)
    return [*tags, *marks]


def _plain(probe: str | Mapping[str, Any]) -> str | dict[str, Any]:
    return probe if isinstance(probe, str) else dict(probe)
