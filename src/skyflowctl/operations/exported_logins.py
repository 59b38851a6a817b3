"""Writes live login roles of every type as a manifest declares them, without defaults."""

from collections.abc import Callable, Mapping
from typing import Any

from skyflowctl.clock import span_text
from skyflowctl.manifest.logins import PRESET_CLAIMS

_SPANS = ("token_ttl", "token_max_ttl")
_NO_CLAIM = "it is bound to no claim, or to values of other forms"


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
    if kind == "userpass":
        raise NotExpressibleError("its password cannot be read, and a manifest must have one")
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
        raise NotExpressibleError(_NO_CLAIM)
    return {"bound_claims": dict(claims), "bound_subject": subject, **found}


def _preset_claims(claims: Mapping[str, str]) -> dict[str, Any]:
    protected = claims.get("ref_protected")
    if protected not in {None, "true", "false"}:
        raise NotExpressibleError(_NO_CLAIM)
    return {
        name: value == "true" if name == "ref_protected" else value
        for name, value in claims.items()
    }


_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "approle": _approle,
    "cert": _cert,
    "jwt": _jwt,
    "kubernetes": _kubernetes,
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
