"""``skyflowctl audit unused``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.commands.audit import options
from skyflowctl.cli.commands.audit.evidence import EvidenceOption, check_evidence, keep_answer
from skyflowctl.cli.commands.audit.options import LogsArgument, PluginOption
from skyflowctl.cli.console import Styled, Terminal
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import FileOption, OutputOptions, TargetOptions, option
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import Problem

if TYPE_CHECKING:
    from skyflowctl.operations.audit_unused import Inventory, Unused

DAY = 86_400


@command(
    examples=[
        ("skyflowctl audit unused 'audit.log*' --days 90", "compare with the server"),
        ("skyflowctl audit unused 'audit.log*' -f mounts.yaml", "compare with the manifest"),
        ("skyflowctl audit unused --dev --days 1h", "on the dev stack, for the last hour"),
        ("skyflowctl audit unused audit.log -o json", "for programs"),
    ],
    exits=READ_EXITS,
    env=["SKYFLOWCTL_AUDIT_LOG"],
)
def unused(
    target: TargetOptions,
    output: OutputOptions,
    logs: LogsArgument = None,
    *,
    days: Annotated[
        str, option("--days", help="Days before the end of the log (default 90).", metavar="DAYS")
    ] = "90",
    file: FileOption = None,
    plugin: PluginOption = None,
    evidence: EvidenceOption = None,
) -> None:
    """Show the roles, consumers and policies through which no token or signature was issued
    in the last days of the log.

    Roles, and the logins and policies that can read tokens, come from the server if one is
    named. Otherwise, roles come from the manifest, or else from the log, which cannot show
    roles that were never used. If the logs cover less than the period, nothing is reported as
    unused: pass the rotated logs of every node too. A signature (sign/ROLE) counts as a use."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.audit import times
        from skyflowctl.audit.query import Query
        from skyflowctl.audit.search import Search, unread_warnings
        from skyflowctl.audit.used import LastUse
        from skyflowctl.cli.commands.audit.view import scan_counts
        from skyflowctl.operations.audit_unused import unused as ask

        window = times.parse_days(days, "--days", run.clock.now())
        patterns = options.log_patterns(logs, dev=target.dev, address=target.address)
        options.check_stdin_once(patterns, target=target)
        check_evidence(evidence)
        sources = options.open_logs(patterns, digest=evidence is not None)
        known, names = _known(target, file, plugin, run)
        answers = Search(sources, Query(), names)
        usage = LastUse()
        usage.add_all(answers)
        found = ask(answers, usage, known, window)
        data = {**_to_json(found), "read": scan_counts(found.read)}
        asked = {
            "logs": list(patterns),
            "plugin_names": list(names),
            "days": window.total_seconds() / DAY,
            **_known_json(known),
        }
        keep_answer(evidence, run, sources, found.read, asked=asked, data=data, table="unused")
        return CommandResult(data, warnings=[*unread_warnings(found.read), *_warnings(found)])

    run_command("audit unused", output, work, _view)


def _known_json(known: "Inventory") -> dict[str, Any]:
    return {
        "source": known.source,
        "roles": sorted("/".join(key) for key in known.roles),
        "apps": sorted([*key] for key in known.apps),
        "policies": sorted(known.policies),
    }


def _known(
    target: TargetOptions, file: Sequence[str] | None, plugin: Sequence[str] | None, run: CommandRun
) -> "tuple[Inventory, tuple[str, ...]]":
    """Return the inventory, and the types of the engine's mounts."""
    from skyflowctl.operations.audit_unused import Inventory, known_from_manifest, known_from_server

    loaded = manifests.optional_manifest(file, run)
    manifest = loaded.manifest if loaded else None
    names = options.plugin_names(plugin or ([manifest.plugin.name] if manifest else None))
    if gateways.server_is_named(target):
        with gateways.open_gateway(target, run) as gateway:
            return known_from_server(gateway, names), names
    if manifest is None:
        return Inventory(), names
    return known_from_manifest(manifest, options.named_namespace(target)), names


def _to_json(found: "Unused") -> dict[str, Any]:
    from skyflowctl.clock import rfc3339

    def time(moment: Any) -> str | None:
        return None if moment is None else rfc3339(moment)

    return {
        "unused": [
            {
                "kind": one.kind,
                "name": one.name,
                "auth": one.auth or None,
                "last_used": time(one.last_used),
            }
            for one in found.things
        ],
        "certain": found.certain,
        "source": found.known.source,
        "counts": found.counts,
        "log": {
            "start": time(found.covered.start),
            "end": time(found.covered.end),
            "seconds": int(found.covered.seconds),
            "asked_seconds": int(found.window.total_seconds()),
        },
    }


def _warnings(found: "Unused") -> list[Problem]:
    lines = []
    if not found.enough:
        lines.append(
            Problem(
                "log-too-short",
                f"the logs cover {_span(found.covered.seconds)}, not the "
                f"{_span(found.window.total_seconds())} that were asked for",
                "what was used before they begin, or on a node whose log is not here, is not seen",
                "give the rotated logs of every node too, or ask for fewer --days",
            )
        )
    if found.known.source == "log":
        lines.append(
            Problem(
                "only-the-log",
                "what was never used cannot be named",
                "no server and no manifest is named, and the log shows only what was used",
                "name the server, or a manifest with -f",
            )
        )
    lines += [
        Problem(
            "not-read",
            f"the server did not list everything: {one.path}",
            one.why or "this login may not read it",
            f"a policy that may: {one.policy_line}" if one.policy_line else "",
        )
        for one in found.known.not_read
    ]
    return lines


def _span(seconds: float) -> str:
    for size, word in ((DAY, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {word}"
    return f"{seconds:.0f} seconds"


def _view(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.cli.commands.audit.view import read_words, short_time
    from skyflowctl.cli.console import Column, fitted

    data, log = result.data, result.data["log"]
    if data["unused"]:
        shown = [
            Column("KIND", lambda row: row["kind"], least=8),
            Column("NAME", lambda row: row["name"], whole=True),
            Column("AUTH", lambda row: row["auth"] or "-", least=4),
            Column(
                "LAST USED (UTC)",
                lambda row: short_time(row["last_used"]) if row["last_used"] else _never(data),
                least=19,
            ),
        ]
        fitted(terminal, shown, data["unused"])
    terminal.out.flush()
    counts = ", ".join(
        f"{sum(one['kind'] == kind for one in data['unused'])} of {number} {_PLURALS[kind]}"
        for kind, number in data["counts"].items()
    )
    word = "unused" if data["certain"] else "not seen in use"
    terminal.note(f"{word} in {_span(log['asked_seconds'])}: {counts}, as the {data['source']} has")
    if log["start"]:
        begin, end = short_time(log["start"]), short_time(log["end"])
        terminal.note(f"the logs cover {begin} to {end}; {read_words(data['read'])}")


_PLURALS = {"role": "roles", "consumer": "consumers", "policy": "policies"}


def _never(data: Any) -> Styled:
    return Styled("never" if data["certain"] else "not in these logs", "yellow")
