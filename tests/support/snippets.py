"""A manifest with one mount, and its consumers: what snippets for platforms are written from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skyflowctl.errors import Where
from skyflowctl.manifest.model import (
    Consumer,
    DeclaredCtx,
    Manifest,
    Mount,
    Plugin,
    Role,
    RotationRule,
)

WHERE = Where("mounts.yaml", 1, 1)
SETTINGS: Mapping[str, dict[str, Any]] = {
    "approle": {},
    "kubernetes": {
        "bound_service_account_names": ["order-account"],
        "bound_service_account_namespaces": ["shop"],
        "audience": "bao",
    },
    "jwt": {"bound_audiences": ["bao"], "bound_claims": {}},
    "cert": {"allowed_common_names": ["edge.shop.example"]},
}


def consumer(kind: str, name: str = "order-service", **settings: Any) -> Consumer:
    grants = (("order", "producer"),)
    return Consumer(name, kind, {**SETTINGS[kind], **settings}, grants, WHERE, (), kind)


def manifest(ctx: DeclaredCtx | None = None) -> Manifest:
    roles = tuple(
        Role(name, "skyflow-role", "", (), ctx or DeclaredCtx(), WHERE)
        for name in ("producer", "reader")
    )
    mount = Mount(
        "order", "skyflow/order", "", (), False, False, None, RotationRule(), roles, WHERE
    )
    return Manifest("shop", Plugin(), "skyflow", (mount,))
