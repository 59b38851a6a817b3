"""Facts about a server that is in perfect order, to be put out of it one at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from skyflowctl.errors import Where
from skyflowctl.manifest.model import DeclaredCtx, Manifest, Mount, Role, RotationRule
from skyflowctl.posture.checks.registry import run_checks
from skyflowctl.posture.facts import (
    AuditDevice,
    Certificate,
    Facts,
    Login,
    MountFacts,
    Server,
    ServerLogins,
    TcpListener,
    Tokens,
)
from skyflowctl.posture.model import Finding
from skyflowctl.vault.decode import decode_live_config
from skyflowctl.vault.live import (
    FULL_API,
    CredentialVersion,
    LiveConfig,
    LiveMount,
    LiveRole,
    LiveRotation,
)
from skyflowctl.vault.responses import CatalogEntry

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DIGEST = "ab" * 32
ADDRESS = "https://bao.example.com:8200"


def ago(**span: float) -> str:
    """An RFC 3339 time before now."""
    return (NOW - timedelta(**span)).isoformat()


def ahead(**span: float) -> str:
    """An RFC 3339 time after now."""
    return (NOW + timedelta(**span)).isoformat()


def live_mount(path: str, **changes: Any) -> LiveMount:
    plain = LiveMount(path, "skyflow", "", {}, (), (), (), "v1.0.0", "v1.0.0", DIGEST)
    return replace(plain, **changes)


def live_config(name: str, **raw: Any) -> LiveConfig:
    """A config whose key is a month old; ``rotation`` is a LiveRotation."""
    told = {"key_valid_after": ago(days=30), "key_valid_before": ahead(days=300), **raw}
    rotation = told.pop("rotation", None)
    plain = {"client_id": f"client-{name}", "key_id": f"key-{name}", "version": 1}
    configured = {"credentials_configured": told.pop("configured", True)}
    live = decode_live_config({**plain, "credential_version": 1, **configured, **told})
    protection = dict.fromkeys(("core_dumps", "dumpable", "swappable"), False)
    return replace(live, rotation=rotation, api=FULL_API, process=protection)


def live_role(name: str) -> LiveRole:
    return LiveRole(name, (f"id-{name}",), "", (), False, "", "", 1)


def mount(name: str, *roles: str, **changes: Any) -> MountFacts:
    """A mount ``skyflow/<name>`` with these roles, in order in every way."""
    path = f"skyflow/{name}"
    plain = MountFacts(
        live_mount(path), live_config(name), {one: live_role(one) for one in roles}, {}
    )
    return replace(plain, **changes)


def rotation(**changes: Any) -> LiveRotation:
    plain = LiveRotation(
        id="r1",
        from_key="key-old",
        to_key="key-order",
        started=ago(days=3),
        by="ann",
        state="committed",
        cut_over_at=ago(days=3),
        old_tokens_valid_until=ago(days=2),
        keys=(),
    )
    return replace(plain, **changes)


def history(*entries: tuple[str, float, bool]) -> dict[int, CredentialVersion]:
    """Entries of (key id, age in days, kept), the oldest first."""
    return {
        number: CredentialVersion(number, "client", key, ago(days=age), "ann", "", kept)
        for number, (key, age, kept) in enumerate(entries, 1)
    }


def declared(name: str, *roles: str, plain_ctx: bool = False) -> Mount:
    """The manifest's mount of that name, at line 7 of ``mounts.yaml``."""
    where = Where("mounts.yaml", 7, 3, f"/mounts/{name}")
    made = tuple(
        Role(one, f"id-{one}", "", (), DeclaredCtx(), Where("mounts.yaml", 9 + n, 7, ""))
        for n, one in enumerate(roles)
    )
    return Mount(
        name=name,
        path=f"skyflow/{name}",
        description="",
        tags=(),
        protect=False,
        plain_ctx=plain_ctx,
        credentials=None,
        rotation=RotationRule(),
        roles=made,
        where=where,
    )


def manifest(*mounts: Mount) -> Manifest:
    from skyflowctl.manifest.model import Plugin

    return Manifest("shop", Plugin(), "skyflow", mounts)


def device(path: str, **options: str) -> AuditDevice:
    return AuditDevice(path, "file", {"file_path": f"/var/log/{path}.log", **options})


def facts(*mounts: MountFacts, **changes: Any) -> Facts:
    """A server in perfect order with these mounts (default: order and payment)."""
    ours = mounts or (mount("order", "writer", "reader"), mount("payment", "gateway"))
    server = Server(
        ADDRESS,
        version="2.7.2",
        seal_type="awskms",
        certificates=(Certificate(ADDRESS, NOW + timedelta(days=200)),),
        listeners=(TcpListener("0.0.0.0:8200", tls=True),),
    )
    plain = Facts(
        now=NOW,
        server=server,
        own_policies=("auditor",),
        audit_devices=(device("one"), device("two")),
        audited_headers={"x-skyflowctl-run": False, "application-source": False},
        mounts=ours,
        catalog=(CatalogEntry("skyflow", "v1.0.0", builtin=False, sha256=DIGEST),),
        policies={"default": "", "root": ""},
        logins=ServerLogins(),
        tokens=Tokens((), 0),
    )
    return replace(plain, **changes)


def login(name: str, *policies: str) -> Login:
    return Login("approle role", f"approle/{name}", tuple(sorted({*policies, "default"})))


def reading(*paths: str) -> str:
    """A policy that may read these paths."""
    return "\n".join(f'path "{path}" {{ capabilities = ["read"] }}' for path in paths)


def found(given: Facts, check: str) -> list[Finding]:
    """The findings of one check, without what is only told."""
    report = run_checks(given)
    return [one for one in report.findings if one.check == check and one.grade != "info"]
