"""Running the command line in this process, and checking what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from typer.testing import CliRunner, Result

from skyflowctl.cli.app import app

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas" / "output"
NOWHERE = {
    "BAO_ADDR": None,
    "VAULT_ADDR": None,
    "SKYFLOWCTL_FILE": None,
    "SKYFLOWCTL_CONTEXT": None,
    "XDG_CONFIG_HOME": "/nowhere",  # the contexts of whoever runs the tests
    "NO_COLOR": "1",
}


def invoke(*args: str, env: dict[str, str | None] | None = None, stdin: str = "") -> Result:
    """Run a command line; no server is named unless ``env`` does."""
    return CliRunner().invoke(app, list(args), env={**NOWHERE, **(env or {})}, input=stdin)


def schema_of(name: str) -> dict[str, Any]:
    """The published schema of a command's data, or of the ``envelope``."""
    return json.loads((SCHEMAS / f"{name.replace(' ', '-')}.schema.json").read_text())


def checked_envelope(text: str) -> dict[str, Any]:
    """Parse one envelope, checked against the published schema."""
    whole = json.loads(text)
    Draft202012Validator(schema_of("envelope")).validate(whole)
    return whole


def checked_data(text: str) -> dict[str, Any]:
    """Parse the envelope of a run that worked, its data checked as well."""
    whole = checked_envelope(text)
    Draft202012Validator(schema_of(whole["command"])).validate(whole["data"])
    return whole["data"]
