"""The plugin's own arguments, which come from its entry in the server's catalog."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """What an operator allows this plugin.

    Args:
        allow_hosts: ``host:port`` of token services besides Skyflow's own.
        credentials_directory: absolute folder below which a config write may name a
            credentials file; None turns that off.
        shared: one process for all mounts, instead of one process per mount.
    """

    allow_hosts: frozenset[str] = frozenset()
    credentials_directory: str | None = None
    shared: bool = False


def _host_and_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or "/" in host or "@" in host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return f"{host.lower()}:{int(port)}"


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is no absolute path")
    return text


def parse_arguments(arguments: Sequence[str]) -> PluginSettings:
    """Return the settings that the arguments name; a wrong argument exits with 2."""
    parser = argparse.ArgumentParser(
        prog="skyflowctl.plugin",
        description="The skyflow secrets engine, started by an OpenBao or Vault server.",
    )
    parser.add_argument(
        "--allow-host",
        metavar="HOST:PORT",
        action="append",
        default=[],
        type=_host_and_port,
        help="a token service that credentials may name, besides Skyflow's own (repeatable)",
    )
    parser.add_argument(
        "--credentials-directory",
        metavar="DIR",
        type=_absolute,
        help="allow credentials_file_path below DIR/<mount point>/",
    )
    parser.add_argument("--shared", action="store_true", help="serve all mounts from one process")
    named = parser.parse_args(arguments)
    return PluginSettings(frozenset(named.allow_host), named.credentials_directory, named.shared)
