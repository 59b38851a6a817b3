"""Replaces what a manifest needs and the dev stack cannot reach: issuers, clusters, cidrs, secrets.

The dev stack's own key stands in for an issuer's: a JSON Web Token that is signed with it, and has
the claims of the manifest, logs in.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from skyflowctl.devstack.layout import DevLayout
from skyflowctl.manifest.access import with_cidrs
from skyflowctl.manifest.model import (
    DeclaredEngine,
    DeclaredObject,
    FieldSource,
    Manifest,
    Reference,
)
from skyflowctl.vault.certificates import public_key_text

LOOPBACK = "127.0.0.0/8"
NO_CLUSTER = "https://127.0.0.1:1"  # no one listens there
_OWN_DEVICE = "file"
_FILE_OPTIONS = ("elide_list_responses", "format", "hmac_accessor", "log_raw", "mode")
_KEY_URLS = ("oidc_discovery_url", "jwks_url")
_AUTHORITIES = ("oidc_discovery_ca_pem", "jwks_ca_pem")


def with_stand_ins(manifest: Manifest, layout: DevLayout) -> tuple[Manifest, tuple[str, ...]]:
    """Return the manifest as it is planned on a dev stack, and a sentence for each replacement."""
    consumers = tuple(with_cidrs(one, LOOPBACK) for one in manifest.consumers)
    objects = tuple(_stand_in(one, layout) for one in manifest.objects if not _is_oidc(one))
    planned = replace(manifest, consumers=consumers, objects=objects)
    sentences = (*_replaced(manifest, planned, layout), *_replaced_secrets(planned, layout))
    return _with_generated(planned), sentences


def _with_generated(manifest: Manifest) -> Manifest:
    """Return the manifest with references that say that a generated value replaces each."""
    return replace(
        manifest,
        engines=tuple(map(_engine_with_generated, manifest.engines)),
        objects=tuple(replace(one, secret=_generated(one.secret)) for one in manifest.objects),
    )


def _engine_with_generated(engine: DeclaredEngine) -> DeclaredEngine:
    secrets = tuple(replace(one, fields=_generated(one.fields)) for one in engine.secrets)
    return replace(engine, secrets=secrets)


def _generated(sources: Mapping[str, FieldSource]) -> dict[str, FieldSource]:
    return {
        name: replace(source, text=f"a generated value, in place of {source.text}")
        if isinstance(source, Reference)
        else source
        for name, source in sources.items()
    }


def _replaced_secrets(manifest: Manifest, layout: DevLayout) -> Iterator[str]:
    """Yield a sentence for each reference, with the file of the value that replaces it."""
    found = {layout.generated_value(one): one.text for one in manifest.references_of_objects}
    for path, text in found.items():
        yield f"a generated value replaces {text}; apply keeps it in {path}"


def _is_oidc(one: DeclaredObject) -> bool:
    """Whether it is the configuration of an oidc method: a dev stack has no page to log in at."""
    return "oidc_client_id" in one.fields


def _stand_in(one: DeclaredObject, layout: DevLayout) -> DeclaredObject:
    if one.kind == "audit_device":
        return device_stand_in(one, layout)
    fields: dict[str, Any] = dict(one.fields)
    if one.kind != "login_config":
        return one
    if any(fields.get(name) for name in _KEY_URLS):
        fields |= dict.fromkeys((*_KEY_URLS, *_AUTHORITIES), "")
        fields["jwt_validation_pubkeys"] = [public_key_text(layout.certificate.read_bytes())]
    if "kubernetes_host" in fields:
        fields["kubernetes_host"] = NO_CLUSTER
        fields["kubernetes_ca_cert"] = fields["kubernetes_ca_cert"] or layout.ca.read_text()
    return replace(one, fields=fields)


def _replaced(manifest: Manifest, planned: Manifest, layout: DevLayout) -> Iterator[str]:
    if planned.consumers != manifest.consumers:
        yield f"{LOOPBACK} replaces the cidrs of consumers"
    yield from _replaced_devices(planned.objects)
    for one in filter(_is_oidc, manifest.objects):
        yield f"{one.path} is left out: a dev stack has no issuer at which people log in"
    kept = (one for one in manifest.objects if not _is_oidc(one))
    for before, after in zip(kept, planned.objects, strict=True):
        if before == after or before.kind == "audit_device":
            continue
        method = before.owner.removeprefix("sys/auth/")
        if "kubernetes_host" in after.fields:
            yield f"no cluster is asked about the logins of {method}"
        else:
            yield f"its key {layout.private_key} replaces the issuer of {method}"


def device_stand_in(one: DeclaredObject, layout: DevLayout) -> DeclaredObject:
    """Return an audit device that writes to a file of the dev stack, and to nowhere else."""
    name = one.path.rpartition("/")[2]
    if name == _OWN_DEVICE:
        options = {"file_path": str(layout.audit_log)}
        fields = {"type": "file", "description": ""}
    else:
        kept = (f"options.{key}" for key in _FILE_OPTIONS)
        options = {"file_path": str(layout.audit_log.with_name(f"audit-{name}.log"))}
        fields = {"type": "file", "description": one.fields["description"]}
        fields |= {key: one.fields[key] for key in kept if key in one.fields}
    return replace(one, fields={**fields, **{f"options.{k}": v for k, v in options.items()}})


def _replaced_devices(objects: tuple[DeclaredObject, ...]) -> Iterator[str]:
    """Yield a sentence for each audit device, as it is planned on a dev stack."""
    for one in objects:
        if one.kind == "audit_device":
            yield f"{one.path} writes to {one.fields['options.file_path']}"
