"""``skyflowctl audit denied``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from skyflowctl.cli.command import command
from skyflowctl.cli.commands.audit import options
from skyflowctl.cli.commands.audit.evidence import (
    EvidenceOption,
    asked_json,
    check_evidence,
    keep_answer,
    warn_of_spans,
)
from skyflowctl.cli.commands.audit.options import (
    DevOption,
    FilterOptions,
    LogsArgument,
    PluginOption,
)
from skyflowctl.cli.console import Styled, Terminal
from skyflowctl.cli.context import manifests
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import FileOption, OutputOptions
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import ExitCode, Problem, UsageError
from skyflowctl.text import counted

if TYPE_CHECKING:
    from skyflowctl.audit.denied import Refusals, RefusedGroup
    from skyflowctl.audit.model import Counts


@command(
    examples=[
        ("skyflowctl audit denied 'audit.log*'", "who was denied, and the missing policy"),
        ("skyflowctl audit denied --dev -f mounts.yaml", "with the ctx rules of the roles"),
        ("skyflowctl audit denied audit.log --since 24h --app 'order-*'", "one team, today"),
        (
            "skyflowctl audit denied audit.log -o json | jq -r '.data.denied[].policy'",
            "only the policies",
        ),
    ],
    exits=[ExitCode.INVALID],
    env=["SKYFLOWCTL_AUDIT_LOG"],
)
def denied(
    output: OutputOptions,
    filters: FilterOptions,
    logs: LogsArgument = None,
    *,
    file: FileOption = None,
    dev: DevOption = False,
    plugin: PluginOption = None,
    evidence: EvidenceOption = None,
) -> None:
    """Show which requests for tokens and signatures were denied by the server's policies or
    refused by the engine, grouped by app and path: the count, the first and last time, and
    the reason.

    If a policy is missing, it is printed: the exact path, the one capability, and the ctx
    rule of the role from the manifest. Review it before you write it."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.audit.denied import Refusals, known_from
        from skyflowctl.audit.search import Search, unread_warnings

        query = options.query_of(filters, run.clock.now())
        if query.outcomes:
            raise _no_outcomes()
        patterns = options.log_patterns(logs, dev=dev)
        loaded = manifests.optional_manifest(file, run)
        manifest = loaded.manifest if loaded else None
        names = options.plugin_names(plugin or ([manifest.plugin.name] if manifest else None))
        check_evidence(evidence)
        warn_of_spans(run, evidence, filters.since, filters.until)
        sources = options.open_logs(patterns, digest=evidence is not None)
        answers = Search(sources, query, names, cut_offs=True)
        refusals = Refusals(known_from(manifest), answers.cut_offs)
        refusals.add_all(answers)
        counts = answers.counts()
        data = _data(refusals, answers.found, counts)
        asked = {**asked_json(patterns, names, query), "manifest": loaded is not None}
        keep_answer(evidence, run, sources, counts, asked=asked, data=data, table="denied")
        warnings = [*unread_warnings(counts), *_warnings(refusals.left_out)]
        return CommandResult(data, warnings=warnings)

    run_command("audit denied", output, work, _view)


def _data(refusals: "Refusals", asked: int, counts: "Counts") -> dict[str, Any]:
    from skyflowctl.cli.commands.audit.view import scan_counts

    return {
        "denied": [_group_json(one) for one in refusals.found()],
        "summary": {
            "asked": asked,
            "left_out": refusals.left_out,
            "certain": counts.certain,
            "read": scan_counts(counts),
        },
    }


def _no_outcomes() -> UsageError:
    return UsageError(
        "--outcome is not for this command",
        why="it shows what was denied and refused",
        fix="leave it out, or use 'skyflowctl audit who'",
    )


def _group_json(group: "RefusedGroup") -> dict[str, Any]:
    from skyflowctl.audit.query import full_mount
    from skyflowctl.clock import rfc3339

    request = group.request
    return {
        "app": request.caller.app or None,
        "auth": request.caller.auth or None,
        "mount": full_mount(request),
        "role": request.role,
        "operation": request.operation,
        "outcome": request.outcome.value,
        "reason": group.reason,
        "count": group.count,
        "first": rfc3339(group.first),
        "last": rfc3339(group.last),
        "policies": list(request.caller.policies),
        "policy": group.policy,
        "request_id": request.request_id,
        "probe_of": group.probe_of or None,
        "kind": request.path,
    }


def _warnings(left_out: int) -> list[Problem]:
    if not left_out:
        return []
    return [
        Problem(
            "too-many-groups",
            f"{counted(left_out, 'refused request')} of further kinds are only counted",
            "there are more combinations of app, path and reason than can be listed",
            "ask for less at once, with --since, --mount or --app",
        )
    ]


def _view(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.cli.commands.audit.view import found_words, note_wrapped, read_words

    for group in result.data["denied"]:
        _show_group(group, terminal)
    summary = result.data["summary"]
    groups = result.data["denied"]
    probes = sum(group["count"] for group in groups if group["probe_of"])
    total = sum(group["count"] for group in groups) + summary["left_out"] - probes
    terminal.out.flush()
    found = f"{total or 'none'} of {counted(summary['asked'], 'request')} turned down"
    if probes:
        found += f", and {counted(probes, 'probe')} of config revoke"
    found = found_words(found, certain=summary["certain"])
    note_wrapped(f"{found}; {read_words(summary['read'])}", terminal)


def _show_group(group: Mapping[str, Any], terminal: Terminal) -> None:
    from skyflowctl.cli.commands.audit.view import OUTCOME_STYLES, short_time

    who = group["app"] or "unknown token"
    how = f" ({group['auth']})" if group["auth"] else ""
    terminal.line(
        Styled(group["outcome"].ljust(8), OUTCOME_STYLES[group["outcome"]]),
        Styled(f"{who}{how}", "bold"),
        f"  {group['operation']} ",
        Styled(f"{group['mount']}/{group['kind']}/{group['role']}", "bold"),
    )
    first, last = short_time(group["first"]), short_time(group["last"])
    span = first if group["count"] == 1 else f"{first} to {last}"
    rows = [("asked", f"{counted(group['count'], 'time')}, {span}"), ("why", group["reason"])]
    if group["probe_of"]:
        rows.append(("run", group["probe_of"]))
    others = [name for name in group["policies"] if name != "default"]
    if others:
        rows.append(("has", ", ".join(others)))
    for name, text in rows:
        terminal.line("  ", Styled(name.ljust(8), "dim"), text)
    for number, line in enumerate((group["policy"] or "").splitlines()):
        terminal.line("  ", Styled(("" if number else "missing").ljust(8), "dim"), line)
    terminal.line()
