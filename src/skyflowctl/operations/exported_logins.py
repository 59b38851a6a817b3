"""Writes live login roles of every type as a manifest declares them, without defaults."""

from collections.abc import Callable, Mapping
from typing import Any

from skyflowctl.clock import span_text
from skyflowctl.manifest.logins import CALLBACK, PRESET_CLAIMS

KEPT: Mapping[str, Any] = {"live": True}
"""In place of what cannot be read, or be written into a manifest: the server's value is kept."""

_SPANS = ("token_ttl", "token_max_ttl")
_CONTROLS_NOTE = "it is bound to no claim, or to values of other forms"


class NotExpressibleError(Exception):
    """A manifest has no words for a live login; the text says why."""


def exported_login(kind: str, live: Mapping[str, Any]) -> dict[str, Any]:
    """Return a login role's settings as a manifest writes them.

    Args:
        kind: the type of its login method.
        live: the server's answer.

    Raises:
        NotExpressibleError: a manifest cannot declare it.
    """
    write = _WRITERS.get(kind)
    if write is None:
        raise NotExpressibleError(f"export writes no logins of the type {kind}")
    spans = {key: span(live, key) for key in _SPANS}
    common = {
        **spans,
        "token_num_uses": live.get("token_num_uses"),
        "cidrs": list(live.get("token_bound_cidrs") or ()),
    }
    return {key: value for key, value in {**write(live), **common}.items() if value}


def _approle(live: Mapping[str, Any]) -> dict[str, Any]:
    uses = live.get("secret_id_num_uses")
    return {"secret_id_ttl": span(live, "secret_id_ttl"), "secret_id_num_uses": uses}


def _kubernetes(live: Mapping[str, Any]) -> dict[str, Any]:
    names = _exact(live, "bound_service_account_names")
    namespaces = _exact(live, "bound_service_account_namespaces")
    if not (names and namespaces):
        raise NotExpressibleError("it has no exact service accounts and namespaces")
    return {
        "service_accounts": names,
        "namespaces": namespaces,
        "audience": live.get("audience"),
    }


def _cert(live: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "common_names": _exact(live, "allowed_common_names"),
        "dns_sans": _exact(live, "allowed_dns_sans"),
        "uri_sans": _exact(live, "allowed_uri_sans"),
    }
    if not any(found.values()):
        raise NotExpressibleError("it has no exact name of a client certificate")
    return found


def _jwt(live: Mapping[str, Any]) -> dict[str, Any]:
    claims: Mapping[str, Any] = live.get("bound_claims") or {}
    subject, audiences = live.get("bound_subject"), list(live.get("bound_audiences") or ())
    if live.get("role_type") != "jwt" or len(audiences) != 1:
        raise NotExpressibleError("it is no jwt login with one audience")
    by_kind = live.get("bound_claims_type")
    found = {"audience": audiences[0], "user_claim": live.get("user_claim")}
    found |= {"bound_claims_type": "glob"} if by_kind == "glob" else {}
    for preset, names in PRESET_CLAIMS.items():
        texts = all(isinstance(one, str) for one in claims.values())
        if texts and not subject and set(names[:2]) <= set(claims) <= set(names):
            return {"preset": preset, **_preset_claims(claims), **found}
    if not (claims or subject) or not all(isinstance(one, list) for one in claims.values()):
        raise NotExpressibleError(_CONTROLS_NOTE)
    return {"bound_claims": dict(claims), "bound_subject": subject, **found}


def _oidc(live: Mapping[str, Any]) -> dict[str, Any]:
    claims: Mapping[str, Any] = live.get("bound_claims") or {}
    if live.get("role_type") != "oidc":
        raise NotExpressibleError("it is no oidc login")
    if not all(isinstance(one, list) for one in claims.values()):
        raise NotExpressibleError("it is bound to values of other forms")
    redirects, claim = list(live.get("allowed_redirect_uris") or ()), live.get("user_claim")
    return {
        "user_claim": claim if claim != "sub" else "",
        "groups_claim": live.get("groups_claim"),
        "scopes": list(live.get("oidc_scopes") or ()),
        "redirect_uris": redirects if redirects != [CALLBACK] else [],
        "bound_subject": live.get("bound_subject"),
        "bound_claims": dict(claims),
        "bound_claims_type": "glob" if live.get("bound_claims_type") == "glob" else "",
    }


def _userpass(_: Mapping[str, Any]) -> dict[str, Any]:
    return {"password": KEPT}


def exported_config(kind: str, live: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Return the configuration of a login method as a manifest writes it; empty without one.

    Args:
        kind: the type of the login method.
        live: the server's answer.
        version: the ``secret_version`` that was written last; 0 for none.

    Raises:
        NotExpressibleError: a manifest cannot declare it.
    """
    write = _CONFIGS.get(kind)
    found = write(live, version) if write and live else {}
    return {key: value for key, value in found.items() if value}


def _kubernetes_config(live: Mapping[str, Any], version: int) -> dict[str, Any]:
    reviews = bool(version or live.get("token_reviewer_jwt_set"))
    return {
        "host": live.get("kubernetes_host"),
        "ca": KEPT if live.get("kubernetes_ca_cert") else None,
        "disable_local_ca_jwt": live.get("disable_local_ca_jwt"),
        "token_reviewer_jwt": KEPT if reviews else None,
        "secret_version": version if reviews else 0,
    }


def _jwt_config(live: Mapping[str, Any], _: int) -> dict[str, Any]:
    discovery, issuer = live.get("oidc_discovery_url"), live.get("bound_issuer")
    if live.get("oidc_client_id"):
        raise NotExpressibleError("it has an oidc client, which a jwt method of a manifest has not")
    if discovery and not issuer:
        raise NotExpressibleError("it accepts tokens of any issuer")
    authority = live.get("oidc_discovery_ca_pem" if discovery else "jwks_ca_pem")
    return {
        "oidc_discovery_url": discovery,
        "jwks_url": live.get("jwks_url"),
        "jwt_validation_pubkeys": [KEPT] if live.get("jwt_validation_pubkeys") else None,
        "bound_issuer": issuer if issuer != discovery else "",
        "ca": KEPT if authority else None,
    }


def _oidc_config(live: Mapping[str, Any], version: int) -> dict[str, Any]:
    if not live.get("oidc_discovery_url"):
        raise NotExpressibleError("it has no oidc_discovery_url")
    if not live.get("oidc_client_id"):  # the server takes a client and its secret only together
        raise NotExpressibleError("it has no oidc client, so nobody logs in at its issuer")
    return {
        "discovery_url": live.get("oidc_discovery_url"),
        "client_id": live.get("oidc_client_id"),
        "client_secret": KEPT,
        "secret_version": version if version > 1 else 0,
        "default_role": live.get("default_role"),
        "ca": KEPT if live.get("oidc_discovery_ca_pem") else None,
    }


_CONFIGS: Mapping[str, Callable[[Mapping[str, Any], int], dict[str, Any]]] = {
    "jwt": _jwt_config,
    "kubernetes": _kubernetes_config,
    "oidc": _oidc_config,
}


def _preset_claims(claims: Mapping[str, str]) -> dict[str, Any]:
    protected = claims.get("ref_protected")
    if protected not in {None, "true", "false"}:
        raise NotExpressibleError(_CONTROLS_NOTE)
    return {
        name: value == "true" if name == "ref_protected" else value
        for name, value in claims.items()
    }


_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "approle": _approle,
    "cert": _cert,
    "jwt": _jwt,
    "kubernetes": _kubernetes,
    "oidc": _oidc,
    "userpass": _userpass,
}


def _exact(live: Mapping[str, Any], name: str) -> list[str]:
    """Return a list of names; none if one is a pattern."""
    found = [str(one) for one in live.get(name) or ()]
    if any("*" in one for one in found):
        raise NotExpressibleError(f"{name} has a pattern")
    return found


def span(live: Mapping[str, Any], name: str) -> str:
    """Return seconds as a manifest's duration, such as 1h30m; empty for 0."""
    seconds = int(live.get(name) or 0)
    return span_text(seconds) if seconds else ""
