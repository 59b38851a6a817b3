"""Writes live engines, groups, rate limits and namespaces as a manifest declares them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from skyflowctl.engine.names import is_name
from skyflowctl.errors import Problem
from skyflowctl.manifest.audit_devices import AUDIT_OPTIONS
from skyflowctl.manifest.engine_rules import ROTATE_VERSION
from skyflowctl.manifest.quotas import QUOTAS, quota_prefix
from skyflowctl.operations.exported_logins import KEPT, span
from skyflowctl.operations.exported_objects import (
    BY_HAND,
    ObjectReader,
    exported_objects,
)
from skyflowctl.operations.exported_settings import (
    Warn,
    of_group,
    of_secret,
    warn_lost,
    without_keys,
)
from skyflowctl.planner.groups import live_group
from skyflowctl.planner.objects import noted_version
from skyflowctl.planner.quotas import live_quotas
from skyflowctl.text import listed
from skyflowctl.vault.access_api import NAMESPACE_ID
from skyflowctl.vault.audit_devices import AUDIT_DEVICES
from skyflowctl.vault.errors import ForbiddenError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.kv import is_kv2, secret_path
from skyflowctl.vault.live import GROUP_PATHS, NAMESPACE_PATHS, LiveAccess, LiveMount, LiveSecret

IsMade = Callable[[LiveSecret], bool]
_MARKS = frozenset({"managed_by", "manifest", "adopted", NAMESPACE_ID})


def exported_engine(
    gateway: Gateway, made: IsMade, engine: LiveMount, description: str, reader: ObjectReader
) -> dict[str, Any] | None:
    """Return an engine as a manifest writes it; None if it is left out.

    ``made`` tells whether a secret is exported.

    Requests: the lists of its objects, and one for each; for kv, a list of each folder, and two
    for each secret of the manifest.
    """
    if engine.type == "kv" and not is_kv2(engine):
        why = "a manifest has only version 2 of kv"
        reader.warn(engine.path, "was left out", why, BY_HAND)
        return None
    ttls = {name: span(engine.ttls, name) for name in engine.ttls}
    data: dict[str, Any] = {"type": engine.type, "description": description, **ttls}
    if engine.type == "kv":
        reader.check("kv config", engine.path, reader.one(f"{engine.path}/config"))
        data["secrets"] = _secrets(gateway, made, engine.path, reader)
    else:
        data |= exported_objects(engine, reader)
    return {key: value for key, value in data.items() if value}


def _secrets(gateway: Gateway, made: IsMade, engine: str, reader: ObjectReader) -> dict[str, Any]:
    """Return the secrets that are exported, with the names of their fields."""
    warn = reader.warn
    kv, fix = gateway.sys.access.kv, "declare each below secrets, with the source of each field"
    try:
        found = kv.secrets(engine)
        ours = [path for path, one in found.items() if made(one)]
        read = {}
        for path in ours:
            reader.reads(path)
            read[path] = kv.secret(engine, path.removeprefix(secret_path(engine, "")))
    except ForbiddenError as error:
        warn(engine, "its secrets were left out", error.problems[0].summary, fix)
        return {}
    if theirs := sorted(found.keys() - read.keys()):
        why = "this manifest did not make them"
        warn(engine, f"these secrets were left out: {listed(theirs)}", why, fix)
    return {
        path.removeprefix(secret_path(engine, "")): _secret(path, secret, warn)
        for path, secret in read.items()
        if secret and _has_fields(path, secret, warn)
    }


def _secret(path: str, secret: LiveSecret, warn: Warn) -> dict[str, Any]:
    warn_lost(warn, path, of_secret(secret))
    version = noted_version(secret.custom_metadata, ROTATE_VERSION)
    fields = dict.fromkeys(sorted(secret.fields), KEPT)
    return {ROTATE_VERSION: version, **fields} if version else fields


def _has_fields(path: str, secret: LiveSecret, warn: Warn) -> bool:
    if not secret.fields:
        why = "its newest version is deleted" if secret.deleted else "it has no field"
        warn(path, "was left out", why, BY_HAND)
    return bool(secret.fields)


def exported_groups(groups: Mapping[str, Mapping[str, Any]], warn: Warn) -> dict[str, Any]:
    """Return groups as a manifest writes them, by name."""
    written: dict[str, Any] = {}
    for path, found in sorted(groups.items()):
        name, live = path.removeprefix(GROUP_PATHS), live_group(found)
        method, alias = live["alias.login_method"], live["alias.name"]
        if not is_name(name) or not live["policies"]:
            why = "a manifest's group has a plain name and at least one policy"
            warn(path, "was left out", why, BY_HAND)
            continue
        if live["type"] == "external" and not (method and alias):
            why = "a manifest's group without an alias is internal, and the type never changes"
            warn(path, "was left out", why, "give it an alias, then export again")
            continue
        written[name] = {"policies": live["policies"]}
        warn_lost(warn, path, of_group(found))
        if method and alias:
            written[name]["aliases"] = {method: alias}
    return written


def exported_quotas(owner: str, access: LiveAccess, warn: Warn) -> dict[str, Any]:
    """Return rate limits as a manifest writes them, by the names that it has for them."""
    prefix = f"{QUOTAS}/{quota_prefix(owner)}"
    for path, one in sorted(live_quotas(access)):
        warn_lost(warn, path, without_keys("quota", one))
    return {path.removeprefix(prefix): _quota(one) for path, one in sorted(live_quotas(access))}


def _quota(live: Mapping[str, Any]) -> dict[str, Any]:
    rate, interval = live.get("rate"), span(live, "interval")
    found = {
        "path": live.get("path"),
        "rate": int(rate) if isinstance(rate, float) and rate.is_integer() else rate,
        "interval": interval if interval != "1s" else "",
        "block_interval": span(live, "block_interval"),
        "role": live.get("role"),
        "inheritable": live.get("inheritable"),
    }
    return {key: value for key, value in found.items() if value}


def exported_audit_devices(live: LiveAccess, warn: Warn) -> dict[str, Any]:
    """Return the server's audit devices as a manifest writes them, by name.

    They have no mark. A plan refuses a device with an option that it does not know, so such a
    device is a warning instead.
    """
    for path, problem in live.unread.items():
        warn(path, "its entries were left out", problem.summary, problem.fix)
    written: dict[str, Any] = {}
    for path, raw in sorted(live.objects.items()):
        options = raw.get("options") or {}
        unknown = sorted(options.keys() - AUDIT_OPTIONS) + (["local"] if raw.get("local") else [])
        if unknown:
            why = f"a manifest has no key for its {', '.join(unknown)}"
            warn(path, "was left out", why, "keep it in the server's configuration")
            continue
        device = {"type": raw.get("type"), "description": raw.get("description")}
        device["options"] = {name: _FLAGS.get(one, one) for name, one in sorted(options.items())}
        name = path.removeprefix(f"{AUDIT_DEVICES}/")
        written[name] = {key: value for key, value in device.items() if value}
    return written


_FLAGS = {"true": True, "false": False}


def exported_namespaces(access: LiveAccess) -> dict[str, Any]:
    """Return namespaces as a manifest writes them, by name."""
    return {
        path.removeprefix(NAMESPACE_PATHS): {"metadata": metadata} if metadata else {}
        for path, one in sorted(access.objects.items())
        if path.startswith(NAMESPACE_PATHS)
        for metadata in [{key: value for key, value in one.items() if key not in _MARKS}]
    }


_WARNED = ("auth/", GROUP_PATHS, QUOTAS, NAMESPACE_PATHS)


def unread_logins(unread: Mapping[str, Problem], warn: Warn) -> Iterable[Problem]:
    """Return what could not be read, besides objects whose absence is only a warning each."""
    for path, problem in sorted(unread.items()):
        if path.startswith(_WARNED):
            is_list = path.endswith("/") or path == QUOTAS
            what = "its entries were left out" if is_list else "was left out"
            warn(path.rstrip("/"), what, problem.summary, problem.fix)
        else:
            yield problem
