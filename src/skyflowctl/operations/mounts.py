"""The mounts of a command; lists them against the manifest, or shows one in full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from skyflowctl.errors import SkyflowctlError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.vault.errors import (
    BadRequestError,
    NotAnEngineError,
    NotFoundError,
    NotMountedError,
)
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig, LiveMount, LiveRole, way_out

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Manifest


@dataclass(frozen=True, slots=True)
class MountRow:
    """One line of the list.

    Args:
        name: the manifest's name, else the path below the prefix.
        path: its path, also if it is absent.
        state: ``absent``: only in the manifest; ``undeclared``: only on the server, while there is
            a manifest; else ``mounted``.
        version: of the plugin that runs it; empty: not mounted.
    """

    name: str
    path: str
    state: Literal["mounted", "absent", "undeclared"]
    description: str
    version: str


@dataclass(frozen=True, slots=True)
class MountDetail:
    """A mount's data from server and engine; ``config`` None: it is not this engine."""

    mount: LiveMount
    config: LiveConfig | None
    roles: Mapping[str, LiveRole]


def list_mounts(
    gateway: Gateway, manifest: Manifest | None, *, prefix: str
) -> tuple[MountRow, ...]:
    """Return the mounts of this engine and those of the manifest, by path; one request."""
    kind = manifest.plugin.name if manifest else "skyflow"
    live = {path: one for path, one in gateway.sys.mounts().items() if one.type == kind}
    declared = {mount.path: mount for mount in manifest.mounts} if manifest else {}
    rows = []
    for path in sorted({*live, *declared}):
        one, wanted = live.get(path), declared.get(path)
        name = wanted.name if wanted else path.removeprefix(f"{prefix}/")
        rows.append(_row(name, path, one, declared=bool(wanted) or manifest is None))
    return tuple(rows)


def _row(name: str, path: str, live: LiveMount | None, *, declared: bool) -> MountRow:
    if live is None:
        return MountRow(name, path, "absent", "", "")
    state: Literal["mounted", "undeclared"] = "mounted" if declared else "undeclared"
    return MountRow(name, path, state, live.description, live.running_plugin_version)


def show_mount(gateway: Gateway, path: str) -> MountDetail:
    """Return a mount, its config and its roles; three requests. A mount of another kind has neither
    config nor roles.

    Raises:
        UsageError: nothing is mounted there.
    """
    with not_found_is_usage_error(path):
        live = gateway.sys.mount(path)
        if live is None:
            raise no_such_mount(path)
        try:
            return MountDetail(
                live, gateway.engine(path).checked_config(), gateway.engine(path).roles()
            )
        except NotAnEngineError:
            return MountDetail(live, None, {})


@contextmanager
def not_found_is_usage_error(path: str) -> Iterator[None]:
    """Turn "no engine at this path" in the block into a usage error, exit 64."""
    try:
        yield
    except NotMountedError as error:
        raise no_such_mount(path) from error
    except NotFoundError as error:
        if type(error) is NotFoundError:
            raise NotAnEngineError.at(path, cause=error) from error
        raise


@contextmanager
def naming_cut_off(gateway: Gateway, path: str) -> Iterator[None]:
    """Add to an error of a cut-off mount in the block why it is cut off, and the fix."""
    try:
        yield
    except BadRequestError as error:
        if "mount not configured" in error.messages:
            raise _no_credential(gateway, path, error) from error
        raise


def _no_credential(gateway: Gateway, path: str, error: BadRequestError) -> BadRequestError:
    try:
        config = gateway.engine(path).checked_config()
    except SkyflowctlError:  # a login that may read only creds
        return error
    cut_off = config.revoked
    return BadRequestError(
        f"{path} is cut off" if cut_off else f"{path} has no credential",
        why=cut_off.sentence() if cut_off else "none was written yet",
        fix=way_out(path, config.api) if cut_off else "'skyflowctl apply' writes the manifest's",
        code="cut-off" if cut_off else "unconfigured",
        status=error.status,
        messages=error.messages,
        method=error.method,
        path=error.path,
        request_id=error.request_id,
    )


def no_such_mount(path: str) -> UsageError:
    """Return the error for a name on the command line that is no mount's."""
    return UsageError(
        f"nothing is mounted at {path}",
        why="the server has no mount of that path in this namespace",
        fix="'skyflowctl mount list' names what is there; 'skyflowctl apply' mounts the manifest",
        code="not-mounted",
    )


def resolve_mount_path(name: str, prefix: str) -> str:
    """Return the path of a MOUNT argument.

    Args:
        name: a path if it contains a slash, else a name below the prefix.
        prefix: the manifest's ``path_prefix``, or its default.

    Raises:
        UsageError: the name is empty or cannot be part of a path.
    """
    cleaned = name.strip("/")
    parts: Sequence[str] = cleaned.split("/")
    if not cleaned or any(part in {"", ".", ".."} or not part.isprintable() for part in parts):
        raise UsageError(
            "MOUNT is neither a name nor a path",
            why="it is empty, or has an empty part, a dot part or control characters",
            fix="give a name such as order, or a path such as skyflow/order",
        )
    return cleaned if "/" in name else "/".join(filter(None, (prefix.strip("/"), cleaned)))
