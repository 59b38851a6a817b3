"""The manifest as frozen values: what ``mounts.yaml`` says once it has been checked.

Everything here is already valid: names, durations, patterns and paths have passed the
schema and ``rules.py``. No secret is ever held here, only references to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from skyflowctl.errors import Where

Scheme = Literal["file", "env", "keyring", "vault", "exec", "stdin", "server_file"]


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is found, never the secret.

    Args:
        scheme: the kind of place.
        target: what the scheme needs, as text parts: ``file`` (absolute path,), ``env``
            (variable name,), ``keyring`` (service, username),
            ``server_file`` (absolute path on the server,).
        text: the reference as the manifest writes it, for messages.
        where: its position in the manifest.
    """

    scheme: Scheme
    target: tuple[str, ...]
    text: str
    where: Where

    @property
    def server_file(self) -> str:
        """The path that the server itself reads; empty: a place that is read from here."""
        return self.target[0] if self.scheme == "server_file" else ""


@dataclass(frozen=True, slots=True)
class DeclaredCtx:
    """What a role asks of ctx. ``required`` is effective: a pattern implies it."""

    required: bool = False
    pattern: str = ""
    probe: str | Mapping[str, Any] = ""


@dataclass(frozen=True, slots=True)
class Role:
    """One use of a mount, mapped to exactly one Skyflow role id."""

    name: str
    role_id: str
    description: str
    tags: tuple[str, ...]
    ctx: DeclaredCtx
    where: Where


@dataclass(frozen=True, slots=True)
class RotationRule:
    """When a mount's credential is due, and where its successor comes from.

    Args:
        max_age: an older credential is due.
        renew_before: one that expires within this span is due.
        source: ``reference``: what ``credentials`` names; ``generate``: Skyflow makes
            one, asked with ``operator_token`` for ``account_id``.
        retire_margin: how long the old credential outlives its last token.
        operator_token: where a Skyflow operator's bearer token is found.
        account_id: the Skyflow account; empty without ``generate``.
    """

    max_age: timedelta | None = None
    renew_before: timedelta | None = None
    source: Literal["reference", "generate"] = "reference"
    retire_margin: timedelta | None = None
    operator_token: Reference | None = None
    account_id: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """One product line's mount. ``tags`` are the defaults' tags, then its own."""

    name: str
    path: str
    description: str
    tags: tuple[str, ...]
    protect: bool
    plain_ctx: bool
    credentials: Reference | None
    rotation: RotationRule
    roles: tuple[Role, ...]
    where: Where


@dataclass(frozen=True, slots=True)
class Plugin:
    """The mount type, and the version that mounts are to run (None: the newest)."""

    name: str = "skyflow"
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole manifest. ``files`` are the paths it was read from, in merge order."""

    id: str
    plugin: Plugin
    path_prefix: str
    mounts: tuple[Mount, ...]
    files: tuple[str, ...] = field(default=())
