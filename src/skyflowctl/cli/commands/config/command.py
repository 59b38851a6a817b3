"""``skyflowctl config``: a mount's credential and metadata, never the key itself."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.commands.cut_off_view import cut_off_note
from skyflowctl.cli.console import Column, Piece, Styled, Terminal, fitted
from skyflowctl.cli.context import credential_sources, gateways, manifests
from skyflowctl.cli.envelope import CommandResult, problem_json
from skyflowctl.cli.options import (
    AllowHostOption,
    AllowRevokedKeyOption,
    ApprovingTargetOptions,
    CredentialsOption,
    FileOption,
    MountArgument,
    OutputOptions,
    ReferenceOptions,
    TargetOptions,
    option,
)
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from skyflowctl.credentials.model import Credential
    from skyflowctl.credentials.resolve import ReferenceResolver
    from skyflowctl.operations.config_write import ConfigPatch


@command(
    examples=[
        ("skyflowctl config show order", "which key is live, since when, until when"),
        ("skyflowctl config show skyflow/order -o json", "for programs"),
        ("skyflowctl config show order -o json | jq -r .data.key_id", "only the key's id"),
    ],
    exits=READ_EXITS,
)
def config_show(
    mount: MountArgument,
    target: TargetOptions,
    output: OutputOptions,
    file: FileOption = None,
) -> None:
    """Show a mount's config. The credential itself never leaves the server."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.config_show import show_config

        path = manifests.resolve_path(mount, file)
        with gateways.open_gateway(target, run) as gateway:
            config = show_config(gateway, path)
        fields = config.to_json()
        if config.revoked:
            fields = {**fields, "revoked": asdict(config.revoked)}
        return CommandResult({"mount": mount, "path": path, **fields})

    run_command("config show", output, work, _view_show)


def _view_show(result: CommandResult, terminal: Terminal) -> None:
    shown = result.data.items()
    terminal.fields((name, value) for name, value in shown if name not in {"mount", "revoked"})
    basic = "credential_version" not in result.data
    cut_off_note(result.data["mount"], result.data.get("revoked"), terminal, basic=basic)


@command(
    examples=[
        ("skyflowctl config history order", "which keys were live, when, and who wrote them"),
        ("skyflowctl config history skyflow/order -o json", "for programs"),
        (
            "skyflowctl config history order -o json | jq '.data.history[] | select(.kept)'",
            "the versions that a rollback can restore",
        ),
    ],
    exits=READ_EXITS,
)
def config_history(
    mount: MountArgument,
    target: TargetOptions,
    output: OutputOptions,
    file: FileOption = None,
) -> None:
    """List the credential versions of a mount, newest first: the key, who wrote it and when,
    and whether the engine still keeps the credential."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations import config_show

        path = manifests.resolve_path(mount, file)
        with gateways.open_gateway(target, run) as gateway:
            past = config_show.config_history(gateway, path)
        listed = [{**asdict(one.entry), "live": one.live} for one in past]
        return CommandResult({"mount": mount, "path": path, "history": listed})

    run_command("config history", output, work, _view_history)


def _view_history(result: CommandResult, terminal: Terminal) -> None:
    rows = result.data["history"]
    if rows:
        fitted(terminal, _HISTORY, rows)
        _show_cut_offs(rows, terminal)
        if any(one["kept"] and not one["live"] for one in rows):
            terminal.note("kept: stored by the engine; whether it still mints is not known")
    else:
        terminal.note("no credential was ever written")


def _show_cut_offs(history: "Sequence[Mapping[str, Any]]", terminal: Terminal) -> None:
    """Write each cut-off once, with the versions that it destroyed."""
    from skyflowctl.text import listed
    from skyflowctl.vault.live import LiveRevocation

    found: dict[LiveRevocation, list[str]] = {}
    for one in history:
        if one["revoked"]:
            found.setdefault(LiveRevocation(**one["revoked"]), []).append(
                str(one["credential_version"])
            )
    for mark, versions in found.items():
        which = "versions" if versions[1:] else "version"
        terminal.wrapped(f"{which} {listed(versions)}: {mark.sentence()}")


def _state(one: "Mapping[str, Any]") -> Piece:
    if one["live"]:
        return Styled("live", "green")
    if one["kept"]:
        return "kept"
    return Styled("revoked", "red") if one["revoked"] else "destroyed"


_HISTORY = (
    Column("VERSION", lambda one: str(one["credential_version"])),
    Column("KEY", lambda one: str(one["key_id"]), whole=True),
    Column("STATE", _state, least=9),
    Column("WRITTEN", lambda one: str(one["written_at"]), least=20),
    Column("BY", lambda one: str(one["written_by"] or "-")),
    Column("DESCRIPTION", lambda one: str(one["description"])),
)

DescriptionOption = Annotated[
    str | None,
    option("--description", help='What the mount is for; "" clears it.', metavar="TEXT"),
]
TagOption = Annotated[
    list[str] | None,
    option(
        "--tag",
        help="A tag; repeat for all tags of the mount, which replace the old ones.",
        metavar="T",
    ),
]
ClearTagsOption = Annotated[bool, option("--clear-tags", help="Remove every tag.")]


@command(
    examples=[
        ('skyflowctl config write order --description "Order orchestration"', "describe a mount"),
        ("skyflowctl config write order --tag env:prod --tag pci", "set all of its tags"),
        ("skyflowctl config write order --clear-tags", "remove all of its tags"),
        (
            "skyflowctl config write order --credentials file:order.json",
            "the first credential of a mount that has none",
        ),
    ],
    exits=[*READ_EXITS, ExitCode.REFUSED, ExitCode.PENDING],
)
def config_write(
    mount: MountArgument,
    target: ApprovingTargetOptions,
    output: OutputOptions,
    *,
    description: DescriptionOption = None,
    tag: TagOption = None,
    clear_tags: ClearTagsOption = False,
    credentials: CredentialsOption = None,
    allow_revoked_key: AllowRevokedKeyOption = None,
    allow_host: AllowHostOption = None,
    file: FileOption = None,
) -> None:
    """Change the given fields and keep the others. If the config changes meanwhile, the write
    is refused (exit 5). To replace the credential of a mount that has one, use 'rotate'.
    The next apply restores the values in the manifest."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations import config_write as write

        tags = chosen_tags(tag, clear=clear_tags)
        resolver = credential_sources.reference_resolver(run, ReferenceOptions())
        new = _first_credential(credentials, allow_host, run, resolver)
        allowed = frozenset(allow_revoked_key or ())
        patch = write.ConfigPatch(description, tags, new, allowed)
        _something_to_write(patch)
        path = manifests.resolve_path(mount, file, run)
        with gateways.open_gateway(target, run) as gateway:
            resolver.transport = gateway.transport
            done = write.write_config(gateway, path, patch)
        where = {"mount": mount, "path": path, "changed": list(done.changed)}
        warnings = [problem_json(one) for one in done.warnings]
        data = {**where, "config": done.config.to_json(), "warnings": warnings}
        return CommandResult(data, warnings=done.warnings)

    run_command("config write", output, work, _view_write)


def chosen_tags(given: "Sequence[str] | None", *, clear: bool) -> tuple[str, ...] | None:
    """Return the tags of ``--tag`` or ``--clear-tags``; None: they stay.

    Raises:
        UsageError: both were given.
    """
    if clear and given:
        raise UsageError(
            "--tag and --clear-tags contradict each other",
            why="one names the tags that the object is to have, the other says none",
            fix="leave out one of the two",
            code="contradiction",
        )
    return () if clear else tuple(given) if given else None


def _first_credential(
    text: str | None,
    allow_hosts: "Sequence[str] | None",
    run: CommandRun,
    resolver: "ReferenceResolver",
) -> "Callable[[], Credential] | None":
    if text is None:
        return None
    return credential_sources.referenced_credential(
        text, "--credentials", run, allow_hosts, resolver
    )


def _something_to_write(patch: "ConfigPatch") -> None:
    if patch.description is None and patch.tags is None and patch.credential is None:
        raise UsageError(
            "nothing to write",
            why="no field of the config was named",
            fix="give --description, --tag, --clear-tags or --credentials",
            code="nothing-to-write",
        )


def _view_write(result: CommandResult, terminal: Terminal) -> None:
    data = result.data
    if not data["changed"]:
        terminal.line(
            Styled("No changes.", "bold green"), f" {data['path']} has these values already."
        )
        return
    what = " and ".join(data["changed"])
    terminal.line(Styled(f"Wrote {what}", "bold green"), f" of {data['path']}")
    shown: dict[str, Any] = data["config"]
    terminal.fields([(name, shown.get(name)) for name in ("key_id", "description", "tags")])


@command(
    examples=[
        ("skyflowctl config verify order", "mint once for every role"),
        ("skyflowctl config verify order -o json", "for programs, with request ids"),
        ("skyflowctl config verify skyflow/order || echo broken", "in a script"),
    ],
    exits=[*READ_EXITS, ExitCode.UNHEALTHY],
)
def config_verify(
    mount: MountArgument,
    target: TargetOptions,
    output: OutputOptions,
    file: FileOption = None,
) -> None:
    """Mint once for every role with the live credential and the role's probe ctx, and discard
    the tokens. The node that receives the request does this itself."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.operations.config_show import verify_config

        path = manifests.resolve_path(mount, file, run)
        with gateways.open_gateway(target, run) as gateway:
            report = verify_config(gateway, path)
        data = {"mount": mount, "path": path, **asdict(report)}
        if report.ok:
            return CommandResult(data)
        return CommandResult(data, "unhealthy", ExitCode.UNHEALTHY, _failures(data))

    run_command("config verify", output, work, _view_verify)


def _failures(data: dict[str, object]) -> list[Problem]:
    roles = data["roles"]
    assert isinstance(roles, dict)
    return [
        Problem(
            "role-does-not-mint",
            f"{data['path']}: role {name or '(none)'} does not mint",
            f"status {proof['status']}: {proof['message']}",
            "check that the role id exists and is assigned to this service account",
        )
        for name, proof in roles.items()
        if not proof["ok"]
    ]


def _view_verify(result: CommandResult, terminal: Terminal) -> None:
    data = result.data
    terminal.fields([("key_id", data["key_id"]), ("version", data["credential_version"])])
    rows: list[list[Piece]] = [
        [
            name or "(no role)",
            Styled("ok", "green") if proof["ok"] else Styled("failed", "red"),
            f"{proof['latency_ms']:.0f} ms",
            proof["request_id"],
        ]
        for name, proof in data["roles"].items()
    ]
    terminal.table(["ROLE", "RESULT", "TOOK", "REQUEST"], rows)
