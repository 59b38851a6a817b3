"""Two versions of the engine for one server or cluster, and one mount to upgrade."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from support.plugin import build_from, copy_source
from support.site import Site

OLD, NEW = "v1.0.0", "v1.0.1"


def version_source(folder: Path, version: str, *, broken: bool = False) -> Path:
    """A copy of the package that says it is another version; ``broken``: it never mints."""
    source = copy_source(folder / version)
    module = source / "skyflowctl" / "version.py"
    text = module.read_text()
    number = version.removeprefix("v")
    module.write_text(
        re.sub(r"^__version__ = .*$", f'__version__ = "{number}"', text, flags=re.MULTILINE)
    )
    if broken:
        exchanges = source / "skyflowctl" / "engine" / "exchanges.py"
        exchanges.write_text(exchanges.read_text() + _BREAK)
    return source


_BREAK = """

async def _cannot_mint(*_args: object, **_more: object) -> MintedToken:
    raise MintFailedError(Failure(401, "this version cannot mint"))


ExchangeSet.mint = _cannot_mint
"""


def build_version(source: Path, plugins: Iterable[Path], version: str) -> dict[str, str]:
    """Build a version into plugin directories; the fields of its catalog entry."""
    command = f"skyflow-{version}"
    digests = {build_from(source, folder, command) for folder in set(plugins)}
    (sha256,) = digests
    return {"command": command, "sha256": sha256, "version": version}


def register_version(site: Site, entry: dict[str, str], *args: str) -> None:
    """Write a version into the catalog, by hand, so that it is not proved to start."""
    body = {
        **entry,
        "args": ["--allow-host", site.emulator.host, *args],
        "env": [f"SSL_CERT_FILE={site.emulator.ca}"],
    }
    status, answer = site.server.api("PUT", "sys/plugins/catalog/secret/skyflow", body)
    assert status == 204, answer


def mount_with_role(site: Site, path: str, version: str = OLD) -> None:
    """Enable a mount with one role that mints."""
    credentials = site.emulator.new_account("role-1")
    fields = {"type": "skyflow", "config": {"plugin_version": version}}
    for where, body in (
        (f"sys/mounts/{path}", fields),
        (f"{path}/config", {"credentials_json": credentials}),
        (f"{path}/roles/reader", {"role_ids": ["role-1"]}),
    ):
        status, answer = site.server.api("POST", where, body)
        assert status in {200, 204}, answer
    assert site.server.api("GET", f"{path}/creds/reader")[0] == 200


def running_version(site: Site, path: str) -> str:
    """The version that the server says it runs at a mount."""
    return site.server.api("GET", f"sys/mounts/{path}")[1]["data"]["running_plugin_version"]
