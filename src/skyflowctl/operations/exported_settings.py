"""Finds live settings that a manifest has no key for, so that an export names each of them.

The defaults are OpenBao's (measured on 2.7.2); a field that is not here has an empty one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skyflowctl.manifest.model import SECRET_VERSION
from skyflowctl.manifest.typed_engines import KEY_CONFIG, KEY_FIXED, ROLE_DEFAULTS, URL_DEFAULTS
from skyflowctl.planner.fields import PASSED_HEADERS, PLAIN_RESPONSE_KEYS
from skyflowctl.vault.decode import REVOKED_MARK
from skyflowctl.vault.live import LiveSecret

Warn = Callable[[str, str, str, str], None]
"""Adds a warning: path, what was left out, why, and the fix."""

_TOKEN = {
    "token_ttl",
    "token_max_ttl",
    "token_num_uses",
    "token_policies",
    "token_bound_cidrs",
}
_JWT = {"role_type", "user_claim", "bound_subject", "bound_claims", "bound_claims_type"}
_KEY_STATE = {
    "name",
    "keys",
    "kdf",
    "latest_version",
    "min_available_version",
    "soft_deleted",
    "convergent_encryption_version",
    "supports_decryption",
    "supports_derivation",
    "supports_encryption",
    "supports_signing",
}
_GROUP_STATE = {
    "creation_time",
    "id",
    "last_update_time",
    "modify_index",
    "namespace_id",
    "parent_group_ids",
}
_MOUNTED = {"type", "description", "accessor", "uuid", "config", "options", "deprecation_status"}
_VERSIONS = {"plugin_version", "running_plugin_version", "running_sha256"}
_OUR_OPTIONS = {
    *("managed_by", "manifest", "adopted", "protect", "files", "version"),
    *("rotate_version", "rotate_after"),
}
_OUR_PREFIXES = (SECRET_VERSION, REVOKED_MARK)

_WORDS: Mapping[str, set[str]] = {
    "approle": {*_TOKEN, "secret_id_ttl", "secret_id_num_uses", "secret_id_bound_cidrs"},
    "cert": {
        *_TOKEN,
        "allowed_common_names",
        "allowed_dns_sans",
        "allowed_uri_sans",
        "certificate",
    },
    "jwt": {*_TOKEN, *_JWT, "bound_audiences"},
    "kubernetes": {
        *_TOKEN,
        "bound_service_account_names",
        "bound_service_account_namespaces",
        "audience",
    },
    "oidc": {*_TOKEN, *_JWT, "groups_claim", "oidc_scopes", "allowed_redirect_uris"},
    "userpass": _TOKEN,
    "jwt config": {
        "oidc_discovery_url",
        "oidc_discovery_ca_pem",
        "jwks_url",
        "jwks_ca_pem",
        "jwt_validation_pubkeys",
        "bound_issuer",
        "status",
    },
    "kubernetes config": {
        "kubernetes_host",
        "kubernetes_ca_cert",
        "disable_local_ca_jwt",
        "token_reviewer_jwt_set",
    },
    "oidc config": {
        "oidc_discovery_url",
        "oidc_discovery_ca_pem",
        "oidc_client_id",
        "default_role",
        "status",
    },
    "database config": {"plugin_name", "connection_details", "allowed_roles"},
    "database connection": {"connection_url", "username", "max_open_connections"},
    "database role": {"db_name", *ROLE_DEFAULTS["database"]},
    "pki role": {"key_bits", *ROLE_DEFAULTS["pki"]},
    "pki urls": {*URL_DEFAULTS},
    "transit key": {
        *KEY_FIXED,
        *KEY_CONFIG,
        *_KEY_STATE,
        "min_decryption_version",
        "min_encryption_version",
    },
    "kv config": set(),
    "group": {"name", "type", "policies", "metadata", "alias", *_GROUP_STATE},
    "quota": {
        "name",
        "type",
        "path",
        "rate",
        "interval",
        "block_interval",
        "role",
        "inheritable",
    },
    "mount": {*_MOUNTED, *_VERSIONS},
    "mount config": {
        "passthrough_request_headers",
        "audit_non_hmac_request_keys",
        "audit_non_hmac_response_keys",
    },
    "engine": {*_MOUNTED, "running_plugin_version", "running_sha256"},
    "engine config": {"default_lease_ttl", "max_lease_ttl"},
    "login method": {*_MOUNTED, "running_plugin_version", "running_sha256"},
    "login method config": set(),
}
"""By kind of object: the fields that a manifest has keys for, and those that nobody sets."""

_TOKEN_DEFAULTS = {"token_type": "default"}
_JWT_DEFAULTS = {**_TOKEN_DEFAULTS, "callback_mode": "client"}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "approle": {**_TOKEN_DEFAULTS, "bind_secret_id": True},
    "cert": _TOKEN_DEFAULTS,
    "jwt": _JWT_DEFAULTS,
    "kubernetes": {**_TOKEN_DEFAULTS, "alias_name_source": "serviceaccount_uid"},
    "oidc": _JWT_DEFAULTS,
    "userpass": _TOKEN_DEFAULTS,
    "jwt config": {"namespace_in_state": True},
    "kubernetes config": {"disable_iss_validation": True},
    "oidc config": {"namespace_in_state": True},
    "database role": {"credential_type": "password"},
    "pki role": {
        "allow_wildcard_certificates": True,
        "cn_validations": ["email", "hostname"],
        "enforce_hostnames": True,
        "issuer_ref": "default",
        "key_usage": ["DigitalSignature", "KeyAgreement", "KeyEncipherment"],
        "not_after_bound": "permit",
        "not_before_bound": "permit",
        "not_before_duration": 30,
        "require_cn": True,
        "use_csr_common_name": True,
        "use_csr_sans": True,
    },
    "kv config": {"delete_version_after": "0s"},
    "login method config": {"token_type": "default-service"},
}


def without_keys(kind: str, live: Mapping[str, Any]) -> list[str]:
    """Return the fields that differ from the server's defaults, and have no key in a manifest."""
    words, defaults = _WORDS[kind], _DEFAULTS.get(kind, {})
    return sorted(
        name
        for name, value in live.items()
        if name not in words
        and not (_is_empty(value) and name not in defaults)
        and value != defaults.get(name)
    )


def _is_empty(value: Any) -> bool:
    """Whether a value says nothing; so does a map of such values."""
    inner = value.values() if isinstance(value, Mapping) else ()
    return not value or (bool(inner) and not any(inner))


def warn_of_login(warn: Warn, kind: str, path: str, live: Mapping[str, Any]) -> None:
    """Warn of settings of a login that are not exported; ``kind``: its login method's type."""
    found = without_keys(kind, live)
    if live.get("display_name") == path.rpartition("/")[2]:
        found.remove("display_name")
    if live.get("certificate"):
        why = "a manifest has a certificate only as a file"
        warn(
            path, "its certificate was left out", why, "save it, and add certificate: {file: NAME}"
        )
    networks = {*(live.get("token_bound_cidrs") or ())}
    if kind == "approle" and {*(live.get("secret_id_bound_cidrs") or ())} != networks:
        found.append("secret_id_bound_cidrs")  # a manifest has one list for both
    warn_lost(warn, path, found)


def of_mount(kind: str, raw: Mapping[str, Any]) -> list[str]:
    """Return the same for an entry of ``sys/mounts`` or ``sys/auth``.

    Args:
        kind: ``mount`` for one of ours, ``engine``, or ``login method``.
        raw: the entry.
    """
    config = raw.get("config") or {}
    found = [*without_keys(kind, raw), *without_keys(f"{kind} config", config)]
    if kind == "mount":
        ours = {
            "passthrough_request_headers": PASSED_HEADERS,
            "audit_non_hmac_request_keys": ("ctx",),
            "audit_non_hmac_response_keys": PLAIN_RESPONSE_KEYS,
        }
        found += [name for name, known in ours.items() if {*(config.get(name) or ())} - {*known}]
    return sorted(found) + _others("options", raw.get("options"))


def of_group(live: Mapping[str, Any]) -> list[str]:
    """Return the same for a group."""
    return without_keys("group", live) + _others("metadata", live.get("metadata"))


def of_secret(live: LiveSecret) -> list[str]:
    """Return the same for a secret's metadata."""
    found = without_keys("kv config", live.settings)
    return found + _others("custom_metadata", live.custom_metadata)


def _others(name: str, values: Mapping[str, Any] | None) -> list[str]:
    """Return the names in a map of texts besides our own."""
    others = sorted({*(values or ())} - _OUR_OPTIONS)
    return [f"{name}.{one}" for one in others if not one.startswith(_OUR_PREFIXES)]


def warn_lost(warn: Warn, path: str, names: Sequence[str]) -> None:
    """Warn of settings that are not exported; without any, do nothing."""
    if names:
        why = "a manifest has no key for it, so no plan compares it, and an apply may reset it"
        fix = "note the live value; after an apply that changed this object, set it again"
        warn(path, f"without {', '.join(names)}", why, fix)
