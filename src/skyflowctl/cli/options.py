"""Options that several commands share: single ones, and groups as frozen dataclasses.

A command takes a group by annotating one parameter with it; ``command.py`` spreads the
group's fields into options and hands the command one value.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import typer

from skyflowctl.cli.console import Terminal

TARGET_PANEL = "Target"
APPROVAL_PANEL = "Approvals"
OUTPUT_PANEL = "Output"
COMMON_PANEL = "Options"


def option(*names: str, help: str, env: str = "", panel: str = COMMON_PANEL, **more: Any) -> Any:  # noqa: A002 - typer's word
    """Return a typer option whose help names its environment variables.

    Args:
        names: the flags.
        help: one line.
        more: other arguments of ``typer.Option``.
        env: shown beside the flag; read by whoever resolves the value, not by typer,
            because a target's parts must all come from one source.
        panel: the heading in the command's help.
    """
    text = f"{help} [env: {env}]" if env else help
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, **more)


class OptionGroup:
    """Base of dataclasses whose fields are annotated options."""

    panel: ClassVar[str] = COMMON_PANEL


MountArgument = Annotated[
    str,
    typer.Argument(
        metavar="MOUNT",
        help="A mount's name; with a slash in it, its path.",
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
        help="How long one mount may take to answer, such as 30s (default 10s).",
        metavar="SPAN",
    ),
]
ParallelismOption = Annotated[
    int,
    option(
        "-p", "--parallelism", help="Requests at once (default 10).", metavar="N", min=1, max=64
    ),
]
YesOption = Annotated[bool, option("-y", "--yes", help="Do not ask; never permits a deletion.")]
NoInputOption = Annotated[bool, option("--no-input", help="Never ask: refuse instead (exit 5).")]


AllowHostOption = Annotated[
    list[str] | None,
    option(
        "--allow-host",
        help="A further token service that credentials may name; repeatable.",
        env="SKYFLOWCTL_ALLOW_HOSTS",
        metavar="HOST:PORT",
    ),
]
CredentialsOption = Annotated[
    str | None,
    option(
        "--credentials",
        help="Where the credential is: file:PATH, env:NAME or keyring:SERVICE/USERNAME.",
        metavar="REF",
    ),
]
ReplaceCredentialOption = Annotated[
    list[str] | None,
    option(
        "--replace-credential",
        help="Write this mount's key though there is no history, or it was cut off; repeatable.",
        metavar="MOUNT",
    ),
]
AllowRevokedKeyOption = Annotated[
    list[str] | None,
    option(
        "--allow-revoked-key",
        help="Make this very key live although a cut-off revoked it; repeatable.",
        metavar="KEY_ID",
    ),
]
AdoptOption = Annotated[
    list[str] | None,
    option(
        "--adopt",
        help="Take over this mount, role or config though others made it; repeatable.",
        metavar="PATH",
    ),
]
AdoptFromOption = Annotated[
    list[str] | None,
    option(
        "--adopt-from",
        help="Take over from this manifest what --adopt names; repeatable.",
        metavar="ID",
    ),
]


@dataclass(frozen=True, slots=True)
class TargetOptions(OptionGroup):
    """The server, as the flags name it. Unset fields come from the environment."""

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
    token_file: Annotated[
        str | None,
        option(
            "--token-file",
            help="A file with the token, - is stdin; a token is never an argument.",
            env="BAO_TOKEN, VAULT_TOKEN",
            panel=TARGET_PANEL,
            metavar="PATH",
        ),
    ] = None
    ca_cert: Annotated[
        str | None,
        option(
            "--ca-cert",
            help="A file with the CA certificates to trust.",
            env="BAO_CACERT, VAULT_CACERT",
            panel=TARGET_PANEL,
            metavar="PATH",
        ),
    ] = None
    ca_path: Annotated[
        str | None,
        option(
            "--ca-path",
            help="A folder with CA certificates to trust.",
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
            help="The name that the server's certificate must have.",
            env="BAO_TLS_SERVER_NAME",
            panel=TARGET_PANEL,
            metavar="NAME",
        ),
    ] = None
    skip_verify: Annotated[
        bool,
        option(
            "--tls-skip-verify",
            help="Do not check the server's certificate.",
            env="BAO_SKIP_VERIFY",
            panel=TARGET_PANEL,
        ),
    ] = False
    nodes: Annotated[
        list[str] | None,
        option(
            "--node",
            help="Another address of the same cluster, which may see the token; repeatable.",
            env="SKYFLOWCTL_NODES",
            panel=TARGET_PANEL,
            metavar="URL",
        ),
    ] = None
    timeout: Annotated[
        str | None,
        option(
            "--timeout",
            help="How long one request may take, such as 30s (default 60s).",
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
    """The server, and what becomes of a request that somebody else has to approve."""

    wait_approval: Annotated[
        str | None,
        option(
            "--wait-approval",
            help="Wait so long for the approval of a request that a control group holds.",
            panel=APPROVAL_PANEL,
            metavar="SPAN",
        ),
    ] = None
    pending: Annotated[
        str | None,
        option(
            "--pending",
            help="Keep what waits in this file (0600) for the next run; else in the keyring.",
            panel=APPROVAL_PANEL,
            metavar="FILE",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class OutputOptions(OptionGroup):
    """The form of the output, for every command."""

    format: Annotated[
        Literal["table", "json"],
        option(
            "-o",
            "--output",
            help="table or json (default table).",
            panel=OUTPUT_PANEL,
            metavar="FORM",
        ),
    ] = "table"
    no_color: Annotated[
        bool,
        option("--no-color", help="No colour.", env="NO_COLOR", panel=OUTPUT_PANEL),
    ] = False
    quiet: Annotated[
        bool,
        option("-q", "--quiet", help="No notices and warnings.", panel=OUTPUT_PANEL),
    ] = False
    verbose: Annotated[
        int,
        option(
            "-v",
            "--verbose",
            help="More about what happens.",
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


@dataclass(frozen=True, slots=True)
class CredsOutputOptions(OutputOptions):
    """The same with two more forms, for a token."""

    format: Annotated[
        Literal["table", "json", "env", "raw"],
        option(
            "-o",
            "--output",
            help="table, json, env (export lines) or raw (the token alone); default table.",
            panel=OUTPUT_PANEL,
            metavar="FORM",
        ),
    ] = "table"  # type: ignore[assignment]  # more forms than elsewhere, on purpose
