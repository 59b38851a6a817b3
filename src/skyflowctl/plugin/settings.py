"""The plugin's own arguments, which come from its entry in the server's catalog."""

from collections.abc import Sequence
from dataclasses import dataclass

from skyflowctl.skyflow.token_uri import parse_host

_USAGE = "[--allow-host HOST:PORT]… [--credentials-directory DIR] [--shared]"


class ArgumentError(Exception):
    """An argument of the catalog entry is wrong; the message says which."""


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


def parse_arguments(arguments: Sequence[str]) -> PluginSettings:
    """Return the settings that the arguments name (``--name value`` or ``--name=value``).

    The standard library's parsers are not used: they cost every start of a plugin
    8 ms, and a server shows their usage text only in its debug log.

    Raises:
        ArgumentError: an argument is unknown, or its value is missing or wrong.
    """
    hosts: set[str] = set()
    directory, shared = None, False
    rest = list(arguments)
    while rest:
        name, has_value, value = rest.pop(0).partition("=")
        if name == "--shared" and not has_value:
            shared = True
            continue
        if name not in ("--allow-host", "--credentials-directory"):
            raise ArgumentError(f"unknown argument {name!r}; known are: {_USAGE}")
        if not has_value:
            if not rest:
                raise ArgumentError(f"{name} needs a value")
            value = rest.pop(0)
        if name == "--allow-host":
            hosts.add(_host_and_port(value))
        else:
            directory = _absolute(value)
    return PluginSettings(frozenset(hosts), directory, shared)


def _host_and_port(text: str) -> str:
    try:
        return parse_host(text)
    except ValueError as error:
        raise ArgumentError(f"--allow-host: {error}") from None


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ArgumentError(f"--credentials-directory: {text!r} is no absolute path")
    return text
