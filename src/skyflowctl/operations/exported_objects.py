"""Writes the objects of live engines as a manifest declares them, without any secret."""

from collections.abc import Callable, Mapping
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.manifest.model import SECRET_VERSION
from skyflowctl.manifest.typed_engines import (
    KEY_CONFIG,
    KEY_FIXED,
    ROLE_DEFAULTS,
    SPANS,
    URL_DEFAULTS,
)
from skyflowctl.operations.exported_logins import KEPT, span
from skyflowctl.operations.exported_settings import Warn, warn_lost, without_keys
from skyflowctl.planner.objects import live_value, noted_version
from skyflowctl.vault.access_api import AccessApi
from skyflowctl.vault.certificates import Authority, authority
from skyflowctl.vault.errors import BadRequestError, ForbiddenError, NotFoundError
from skyflowctl.vault.live import LiveMount

BY_HAND = "declare it by hand"


class ObjectReader:
    """Reads the objects of engines: one request for each list and for each object."""

    def __init__(
        self, api: AccessApi, parallelism: int, warn: Warn, reads: Callable[[str], None]
    ) -> None:
        self._api = api
        self.reads = reads
        self._parallelism = parallelism
        self.warn = warn

    def one(self, path: str) -> Mapping[str, Any]:
        """Return an object; empty if there is none, or it cannot be read, which is a warning."""
        self.reads(path)
        return self._kept(self._api.read_each([path], 1)).get(path, {})

    def all_in(self, path: str) -> dict[str, Mapping[str, Any]]:
        """Return the objects of a list by name, sorted; what cannot be read is a warning."""
        self.reads(path)
        try:
            names = sorted(self._api.names(path))
        except NotFoundError:
            what, why = "was not searched", "the server has no such list"
            self.warn(path, what, why, "declare what is there by hand")
            return {}
        except (BadRequestError, ForbiddenError) as error:
            problem = error.problems[0]
            self.warn(path, "its entries were left out", problem.summary, problem.fix)
            return {}
        paths = [f"{path}/{name}" for name in names]
        found = self._kept(self._api.read_each(paths, self._parallelism))
        return {one.removeprefix(f"{path}/"): fields for one, fields in found.items()}

    def check(self, kind: str, path: str, live: Mapping[str, Any]) -> None:
        """Warn of settings that a manifest has no key for."""
        warn_lost(self.warn, path, without_keys(kind, live))

    def _kept(
        self, found: Mapping[str, Mapping[str, Any] | Problem | None]
    ) -> dict[str, Mapping[str, Any]]:
        for path, one in found.items():
            if isinstance(one, Problem):
                self.warn(path, "was left out", one.summary, one.fix)
        return {path: one for path, one in found.items() if one and not isinstance(one, Problem)}


def exported_objects(engine: LiveMount, reader: ObjectReader) -> dict[str, Any]:
    """Return the sections of an engine besides its own settings, as a manifest writes them.

    A pki engine's certificate is added by :func:`with_authorities`.
    """
    write = _WRITERS.get(engine.type, _others)
    return {key: found for key, found in write(engine, reader).items() if found}


def _database(engine: LiveMount, reader: ObjectReader) -> dict[str, Any]:
    roles = reader.all_in(f"{engine.path}/roles")
    connections = reader.all_in(f"{engine.path}/config")
    for name, one in connections.items():
        details = one.get("connection_details") or {}
        of_it = without_keys("database connection", details)
        names = [*without_keys("database config", one), *of_it]
        warn_lost(reader.warn, f"{engine.path}/config/{name}", names)
    for name, one in roles.items():
        reader.check("database role", f"{engine.path}/roles/{name}", one)
    return {
        "connections": {
            name: _connection(
                one,
                [role for role, used in roles.items() if used.get("db_name") == name],
                noted_version(engine.options, f"{SECRET_VERSION}config/{name}"),
            )
            for name, one in connections.items()
        },
        "roles": {
            name: {"connection": one.get("db_name"), **_settings(one, ROLE_DEFAULTS["database"])}
            for name, one in roles.items()
        },
    }


def _connection(live: Mapping[str, Any], roles: list[str], version: int) -> dict[str, Any]:
    username = live_value(live, "username")
    password = {"password": KEPT, "secret_version": version or 1} if username else {}
    allowed = list(live.get("allowed_roles") or ())
    return _filled(
        {
            "plugin": live.get("plugin_name"),
            "connection_url": live_value(live, "connection_url"),
            "username": username,
            **password,
            "max_open_connections": live_value(live, "max_open_connections"),
        }
    ) | ({} if allowed == roles else {"allowed_roles": allowed})


def _pki(engine: LiveMount, reader: ObjectReader) -> dict[str, Any]:
    urls = reader.one(f"{engine.path}/config/urls")
    reader.check("pki urls", f"{engine.path}/config/urls", urls)
    roles = reader.all_in(f"{engine.path}/roles")
    for name, one in roles.items():
        reader.check("pki role", f"{engine.path}/roles/{name}", one)
    return {
        "urls": _settings(urls, URL_DEFAULTS),
        "roles": {name: _pki_role(one) for name, one in roles.items()},
    }


def _pki_role(live: Mapping[str, Any]) -> dict[str, Any]:
    found = _settings(live, ROLE_DEFAULTS["pki"])
    bits = live.get("key_bits")
    if bits and (live.get("key_type"), bits) != ("rsa", 2048):
        found["key_bits"] = bits
    return found or {"key_type": live.get("key_type")}


def _transit(engine: LiveMount, reader: ObjectReader) -> dict[str, Any]:
    keys = reader.all_in(f"{engine.path}/keys")
    for name, one in keys.items():
        reader.check("transit key", f"{engine.path}/keys/{name}", one)
    return {"keys": {name: _key(one) for name, one in keys.items()}}


def _key(live: Mapping[str, Any]) -> dict[str, Any]:
    found = _settings(live, {**KEY_FIXED, **KEY_CONFIG})
    oldest, encrypting = (live.get(f"min_{use}_version") for use in ("decryption", "encryption"))
    if oldest != 1:
        found["min_decryption_version"] = oldest
    if encrypting:
        found["min_encryption_version"] = encrypting
    return found


def _others(engine: LiveMount, reader: ObjectReader) -> dict[str, Any]:
    """Return the readable objects of a type that has no keys of its own in the manifest."""
    folder = "keys" if engine.type == "totp" else "roles"
    reader.warn(
        engine.path,
        f"was searched only at {folder}",
        f"the server does not tell which objects an engine of type {engine.type} has",
        "declare others by hand; they stay on the server as they are",
    )
    hidden = {
        name.removeprefix(SECRET_VERSION)
        for name in engine.options
        if name.startswith(SECRET_VERSION)
    }
    for path in sorted(hidden):
        why = "the server does not tell the names of its secret fields"
        reader.warn(f"{engine.path}/{path}", "was left out", why, BY_HAND)
    found = reader.all_in(f"{engine.path}/{folder}")
    paths = {f"{folder}/{name}": one for name, one in found.items()}
    once = engine.type == "totp"  # its key cannot be read, and a second write makes another one
    return {
        "objects": {
            path: {"fields": _fields(one)} | ({"once": {"exists": path}} if once else {})
            for path, one in paths.items()
            if path not in hidden and _fields(one)
        }
    }


def _fields(live: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields as a manifest has them: a map as JSON; those without a value are absent."""
    import json

    return {
        name: json.dumps(value) if isinstance(value, Mapping) else value
        for name, value in live.items()
        if value not in ("", [], {}, None)
    }


_WRITERS: Mapping[str, Callable[[LiveMount, ObjectReader], dict[str, Any]]] = {
    "database": _database,
    "pki": _pki,
    "transit": _transit,
}


def with_authorities(engines: Mapping[str, dict[str, Any]], reader: ObjectReader) -> None:
    """Add each pki engine's certificate to what was exported; an intermediate names its signer."""
    pems = {
        path: str(reader.one(f"{path}/cert/ca").get("certificate") or "")
        for path, written in engines.items()
        if written["type"] == "pki"
    }
    found = {path: one for path, pem in pems.items() if pem and (one := authority(pem))}
    for path, pem in pems.items():
        one = found.get(path)
        if one is None:
            if pem:
                why = "its certificate has no common name, or cannot be understood"
                reader.warn(f"{path}/cert/ca", "was left out", why, BY_HAND)
            continue
        signers = [other for other, its in found.items() if its.subject == one.issuer]
        if one.issuer == one.subject:
            engines[path]["root"] = _authority(one)
        elif signers:
            engines[path]["intermediate"] = {**_authority(one), "signed_by": signers[0]}
        else:
            why = f"no exported engine has the certificate of its issuer, {one.issuer}"
            reader.warn(f"{path}/cert/ca", "was left out", why, BY_HAND)


def _authority(one: Authority) -> dict[str, Any]:
    return _filled(
        {
            "common_name": one.common_name,
            "organization": one.organization,
            "ttl": span({"ttl": one.seconds}, "ttl"),
            "key_type": one.key_type if one.key_type != "rsa" else "",
            "key_bits": one.key_bits,
        }
    )


def _settings(live: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from the server's defaults."""
    given = (
        (name, live.get(name)) for name, default in defaults.items() if live.get(name) != default
    )
    return {
        name: span(live, name) if name in SPANS else value
        for name, value in given
        if value is not None
    }


def _filled(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value not in ("", None)}
