"""How the release before the format number read stored records; frozen, never changed.

A downgrade puts these rules in front of what this release wrote.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

HISTORY = (
    "credential_version", "client_id", "key_id", "written_at", "written_by", "description",
    "kept", "slot",
)  # fmt: skip
ROTATION = ("id", "from_key", "to_key", "started", "by")
CONFIG = ("version", "credential_version", "configured", "description", "tags")
ROLE = ("role_ids", "version", "created", "last_updated")
ROLE_OPTIONAL = ("description", "tags", "ctx_required", "ctx_pattern", "ctx_probe")
CREDENTIAL = ("clientID", "clientName", "tokenURI", "keyID", "privateKey")


def read_config(raw: bytes) -> dict[str, Any]:
    """Unknown keys were dropped, times parsed, each history entry needed all of its fields."""
    stored = json.loads(raw)
    config = {name: stored[name] for name in CONFIG}
    config["history"] = [
        {name: entry[name] for name in HISTORY} for entry in stored.get("history", ())
    ]
    for entry in config["history"]:
        datetime.fromisoformat(entry["written_at"])
    rotation = stored.get("rotation")
    config["rotation"] = {name: rotation[name] for name in ROTATION} if rotation else None
    return config


def read_role(raw: bytes) -> dict[str, Any]:
    """A role needed its ids, its version and its times."""
    stored = json.loads(raw)
    role = {name: stored[name] for name in ROLE}
    for name in ("created", "last_updated"):
        datetime.fromisoformat(role[name])
    return role | {name: stored[name] for name in ROLE_OPTIONAL if name in stored}


def read_credential(raw: bytes) -> dict[str, Any]:
    """A credential was Skyflow's own JSON, each field by its name."""
    stored = json.loads(raw)
    return {name: stored[name] for name in CREDENTIAL}
