"""The plugin's own arguments, from its entry in the server's catalog."""

from collections.abc import Iterator, Sequence

from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.token_uri import parse_host

_USAGE = (
    "[--allow-host HOST:PORT]… [--only-host HOST:PORT]… [--credentials-directory DIR] [--shared]"
)
_WITH_VALUE = frozenset({"--allow-host", "--only-host", "--credentials-directory"})


class ArgumentError(Exception):
    """An argument of the catalog entry is wrong; the message says which."""


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """The permissions that an operator gives this plugin.

    Args:
        allow_hosts: ``host:port`` of token services besides Skyflow's own.
        credentials_directory: absolute folder below which a config write may name a
            credentials file; None turns that off.
        shared: one process for all mounts, instead of one process per mount.
        only_hosts: token services instead of Skyflow's own, for a server that must
            never send an assertion there (the dev stack's).
    """

    allow_hosts: frozenset[str] = frozenset()
    credentials_directory: str | None = None
    shared: bool = False
    only_hosts: frozenset[str] = frozenset()


def parse_arguments(arguments: Sequence[str]) -> PluginSettings:
    """Return the settings that the arguments name (``--name value`` or ``--name=value``).

    The standard library's parsers are not used: they cost every start of a plugin
    8 ms, and a server shows their usage text only in its debug log.

    Raises:
        ArgumentError: an argument is unknown, or its value is missing or wrong.
    """
    hosts: dict[str, set[str]] = {"--allow-host": set(), "--only-host": set()}
    directory, shared = None, False
    for name, value in _pairs(arguments):
        if name == "--shared":
            shared = True
        elif name in hosts:
            hosts[name].add(_host_and_port(name, value))
        else:
            directory = _absolute(value)
    return PluginSettings(
        frozenset(hosts["--allow-host"]), directory, shared, frozenset(hosts["--only-host"])
    )


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield known names with their values; ``--shared`` has none."""
    rest = list(arguments)
    while rest:
        name, has_value, value = rest.pop(0).partition("=")
        if name == "--shared" and not has_value:
            yield name, ""
            continue
        if name not in _WITH_VALUE:
            raise ArgumentError(f"unknown argument {name!r}; known are: {_USAGE}")
        if not has_value:
            if not rest:
                raise ArgumentError(f"{name} needs a value")
            value = rest.pop(0)
        yield name, value


def _host_and_port(name: str, text: str) -> str:
    try:
        return parse_host(text)
    except ValueError as error:
        raise ArgumentError(f"{name}: {error}") from None


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ArgumentError(f"--credentials-directory: {text!r} is not an absolute path")
    return text
