"""Options shared by several commands: single ones, and groups as frozen dataclasses.

A command takes a group by annotating one parameter with it; ``command.py`` turns the group's fields
into options and passes one value to the command.
"""

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

import typer

from skyflowctl.cli.console import Terminal
from skyflowctl.clock import parse_duration
from skyflowctl.errors import UsageError
from skyflowctl.frozen import dataclass

TARGET_PANEL = "Target"
APPROVAL_PANEL = "Approvals"
OUTPUT_PANEL = "Output"
COMMON_PANEL = "Options"

_LONGEST_SPAN = timedelta(days=365)


def option(*names: str, help: str, env: str = "", panel: str = COMMON_PANEL, **more: Any) -> Any:  # noqa: A002 - typer's word
    """Return a typer option whose help names its environment variables.

    Args:
        names: the flags.
        help: one line.
        more: other arguments of ``typer.Option``.
        env: shown after the text; read by the code that resolves the value, not by typer, because
            all parts of a target must come from one source.
        panel: the heading in the command's help.
    """
    text = f"{help} [env: {env}]" if env else help
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, **more)


class OptionGroup:
    """Base of dataclasses whose fields are annotated options."""

    panel: ClassVar[str] = COMMON_PANEL
    repeated: ClassVar[bool] = False
    """Whether a printed command repeats these options: they say where, not what to do."""


MountArgument = Annotated[
    str,
    typer.Argument(
        metavar="MOUNT",
        help="A mount's name, or its path if it contains a slash.",
        show_default=False,
    ),
]
MountsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MOUNT]...", help="Only these mounts.", show_default=False),
]
RoleArgument = Annotated[
    str, typer.Argument(metavar="ROLE", help="A role of the mount.", show_default=False)
]
FileOption = Annotated[
    list[str] | None,
    option(
        "-f",
        "--file",
        help="The manifest; repeat to merge several, - is stdin. Default: ./mounts.yaml.",
        env="SKYFLOWCTL_FILE",
        metavar="PATH",
    ),
]
DeadlineOption = Annotated[
    str | None,
    option(
        "--deadline",
        help="Time limit for one mount, such as 30s (default 10s).",
        metavar="SPAN",
    ),
]
ParallelismOption = Annotated[
    int,
    option(
        "-p", "--parallelism", help="Concurrent requests (default 10).", metavar="N", min=1, max=64
    ),
]
YesOption = Annotated[
    bool, option("-y", "--yes", help="Do not ask for confirmation; never replaces --allow-destroy.")
]
AllowDestroyOption = Annotated[
    list[str] | None,
    option(
        "--allow-destroy",
        help="The path of the object to be deleted, for what --yes does not permit.",
        metavar="PATH",
    ),
]
NoInputOption = Annotated[bool, option("--no-input", help="Refuse instead of asking (exit 5).")]


AllowHostOption = Annotated[
    list[str] | None,
    option(
        "--allow-host",
        help="An additional token service that credentials may name; repeatable.",
        env="SKYFLOWCTL_ALLOW_HOSTS",
        metavar="HOST:PORT",
    ),
]
CredentialsOption = Annotated[
    str | None,
    option(
        "--credentials",
        help="The credential: file:PATH, env:NAME, keyring:SERVICE/USERNAME, vault:PATH#FIELD, "
        "or - for stdin.",
        metavar="REF",
    ),
]
AllowRevokedKeyOption = Annotated[
    list[str] | None,
    option(
        "--allow-revoked-key",
        help="Allow this key even if a cut-off revoked it; repeatable.",
        metavar="KEY_ID",
    ),
]


REPEATED = (FileOption, AllowHostOption)
"""The single options that a printed command repeats."""


@dataclass(frozen=True, slots=True)
class ReferenceOptions(OptionGroup):
    """What a manifest's references may do that needs the caller's word in the same call."""

    repeated: ClassVar[bool] = True

    allow_exec: Annotated[
        list[str] | None,
        option(
            "--allow-exec",
            help="A program that exec references may run, as an absolute path; repeatable.",
            metavar="PROGRAM",
        ),
    ] = None
    allow_ref: Annotated[
        list[str] | None,
        option(
            "--allow-ref",
            help="Secrets that vault references may read without a terminal; repeatable.",
            metavar="GLOB",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class ServerOptions(OptionGroup):
    """How to reach a server: what a context stores, too."""

    address: Annotated[
        str | None,
        option(
            "--address",
            help="The server's address.",
            env="BAO_ADDR, VAULT_ADDR",
            panel=TARGET_PANEL,
            metavar="URL",
        ),
    ] = None
    namespace: Annotated[
        str | None,
        option(
            "-n",
            "--namespace",
            help="The namespace.",
            env="BAO_NAMESPACE, VAULT_NAMESPACE",
            panel=TARGET_PANEL,
            metavar="NAME",
        ),
    ] = None
    ca_cert: Annotated[
        str | None,
        option(
            "--ca-cert",
            help="A file with trusted CA certificates.",
            env="BAO_CACERT, VAULT_CACERT",
            panel=TARGET_PANEL,
            metavar="PATH",
        ),
    ] = None
    ca_path: Annotated[
        str | None,
        option(
            "--ca-path",
            help="A folder with trusted CA certificates.",
            env="BAO_CAPATH, VAULT_CAPATH",
            panel=TARGET_PANEL,
            metavar="PATH",
        ),
    ] = None
    client_cert: Annotated[
        str | None,
        option(
            "--client-cert",
            help="A client certificate.",
            env="BAO_CLIENT_CERT",
            panel=TARGET_PANEL,
            metavar="PATH",
        ),
    ] = None
    client_key: Annotated[
        str | None,
        option(
            "--client-key",
            help="The client certificate's key.",
            env="BAO_CLIENT_KEY",
            panel=TARGET_PANEL,
            metavar="PATH",
        ),
    ] = None
    tls_server_name: Annotated[
        str | None,
        option(
            "--tls-server-name",
            help="The expected name in the server's certificate.",
            env="BAO_TLS_SERVER_NAME",
            panel=TARGET_PANEL,
            metavar="NAME",
        ),
    ] = None
    nodes: Annotated[
        list[str] | None,
        option(
            "--node",
            help="Address of another node, which may receive the token; repeatable.",
            env="SKYFLOWCTL_NODES",
            panel=TARGET_PANEL,
            metavar="URL",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class TargetOptions(ServerOptions):
    """The server, as the flags name it. Unset fields come from the environment or the context."""

    repeated: ClassVar[bool] = True

    context: Annotated[
        str | None,
        option(
            "--context",
            help="The context: its server and its login.",
            env="SKYFLOWCTL_CONTEXT",
            panel=TARGET_PANEL,
            metavar="NAME",
        ),
    ] = None
    token_file: Annotated[
        str | None,
        option(
            "--token-file",
            help="A file with the token, - is stdin; a token cannot be an argument.",
            env="BAO_TOKEN, VAULT_TOKEN",
            panel=TARGET_PANEL,
            metavar="PATH",
        ),
    ] = None
    skip_verify: Annotated[
        bool,
        option(
            "--tls-skip-verify",
            help="Do not verify the server's certificate.",
            env="BAO_SKIP_VERIFY",
            panel=TARGET_PANEL,
        ),
    ] = False
    timeout: Annotated[
        str | None,
        option(
            "--timeout",
            help="Time limit for one request, such as 30s (default 60s).",
            env="BAO_CLIENT_TIMEOUT",
            panel=TARGET_PANEL,
            metavar="SPAN",
        ),
    ] = None
    dev: Annotated[
        bool,
        option("--dev", help="Start or reuse the dev stack.", panel=TARGET_PANEL),
    ] = False


@dataclass(frozen=True, slots=True)
class ApprovingTargetOptions(TargetOptions):
    """The server, and how to handle a request that needs an approval."""

    wait_approval: Annotated[
        str | None,
        option(
            "--wait-approval",
            help="Wait this long for the approval of a request.",
            panel=APPROVAL_PANEL,
            metavar="SPAN",
        ),
    ] = None
    pending: Annotated[
        str | None,
        option(
            "--pending",
            help="Store pending requests in this file (0600) instead of the keyring.",
            panel=APPROVAL_PANEL,
            metavar="FILE",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class OutputOptions(OptionGroup):
    """The output format of every command."""

    format: Annotated[
        Literal["table", "json"],
        option(
            "-o",
            "--output",
            help="Output format: table or json (default table).",
            panel=OUTPUT_PANEL,
            metavar="FORM",
        ),
    ] = "table"
    no_color: Annotated[
        bool,
        option("--no-color", help="Do not use colour.", env="NO_COLOR", panel=OUTPUT_PANEL),
    ] = False
    quiet: Annotated[
        bool,
        option("-q", "--quiet", help="Print no notices or warnings.", panel=OUTPUT_PANEL),
    ] = False
    verbose: Annotated[
        int,
        option(
            "-v",
            "--verbose",
            help="Print more details.",
            env="SKYFLOWCTL_DEBUG",
            panel=OUTPUT_PANEL,
            count=True,
        ),
    ] = 0

    @property
    def json(self) -> bool:
        """True when the output is the JSON envelope."""
        return self.format == "json"

    def terminal(self) -> Terminal:
        """Return the terminal that these options ask for."""
        return Terminal(quiet=self.quiet, verbosity=self.verbose, no_color=self.no_color)


def span_seconds(text: str, origin: str, *, most: timedelta = _LONGEST_SPAN) -> float:
    """Return the seconds of a span such as ``30s``, or of a plain number of seconds.

    Args:
        text: the span.
        origin: the flag or variable that it comes from.
        most: the longest allowed span.

    Raises:
        UsageError: it is neither a span nor a number, zero, or too long.
    """
    try:
        plain = text.isascii() and text.isdecimal()
        seconds = parse_duration(f"{text}s" if plain else text).total_seconds()
    except ValueError as error:
        raise _bad_span(origin, str(error)) from None
    if seconds <= 0:
        raise _bad_span(origin, "it is zero")
    if seconds > most.total_seconds():
        raise _bad_span(origin, f"it is longer than {most.days * 24}h")
    return seconds


def _bad_span(origin: str, why: str) -> UsageError:
    return UsageError(f"{origin} is not a span of time", why=why, fix="for example 30s")
