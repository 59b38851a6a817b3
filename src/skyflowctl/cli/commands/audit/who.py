"""``skyflowctl audit who``."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.commands.audit import options
from skyflowctl.cli.commands.audit.evidence import (
    EvidenceOption,
    RowsEvidence,
    asked_json,
    warn_of_spans,
)
from skyflowctl.cli.commands.audit.options import (
    FilterOptions,
    LogsArgument,
    PluginOption,
    RowsOutputOptions,
)
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import gateways
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import TargetOptions, option
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import SkyflowctlError, UsageError
from skyflowctl.secret import Secret
from skyflowctl.text import counted

if TYPE_CHECKING:
    from skyflowctl.audit.query import Query
    from skyflowctl.vault.audit_hashes import Hasher

MAX_TOKEN = 64 << 10

CtxOption = Annotated[
    list[str] | None,
    option(
        "--ctx",
        help="The ctx: text, a glob, or a flat JSON object; '' for none. Hashed values need "
        "the server.",
        panel=options.FILTER_PANEL,
        metavar="CTX",
    ),
]
HashedOption = Annotated[
    list[str] | None,
    option(
        "--hashed",
        help="The hash of a ctx or a token, as logged (hmac-sha256:…); repeatable.",
        panel=options.FILTER_PANEL,
        metavar="HMAC",
    ),
]
TokenOption = Annotated[
    str | None,
    option(
        "--token",
        help="- reads a bearer or a server token from stdin, and finds who got it.",
        panel=options.FILTER_PANEL,
        metavar="-",
    ),
]


@command(
    examples=[
        (
            "skyflowctl audit who 'logs/audit.log*' --ctx order:ORD-42",
            "who requested a token for this ctx",
        ),
        ("skyflowctl audit who --dev --since 24h --app 'order-*'", "in the dev stack's log"),
        ("skyflowctl audit who n1=a/audit.log n2=b/audit.log --role x", "several nodes as one"),
        ("skyflowctl audit who audit.log --token - < found.txt", "who got this token"),
        ("skyflowctl audit who audit.log -o csv > who.csv", "for a spreadsheet"),
    ],
    exits=READ_EXITS,
    env=["SKYFLOWCTL_AUDIT_LOG"],
)
def who(
    target: TargetOptions,
    output: RowsOutputOptions,
    filters: FilterOptions,
    logs: LogsArgument = None,
    *,
    ctx: CtxOption = None,
    hashed: HashedOption = None,
    token: TokenOption = None,
    plugin: PluginOption = None,
    evidence: EvidenceOption = None,
) -> None:
    """Show who requested which Skyflow token or signed data tokens (sign/ROLE), from the
    server's audit logs: one row for each request, sorted by time. Requests and responses are
    joined, the copies of two devices count once, and a standby's forward is not counted.

    APP is the login as the server knows it. CLAIMED APP is what the caller says about
    itself. A ctx is hashed unless the mount is tuned to log it in plain text; --ctx then
    needs the server, for the hash. Nothing else needs a server. -v shows every request in
    full."""

    def work(run: CommandRun) -> CommandResult:
        patterns = options.log_patterns(logs, dev=target.dev, address=target.address)
        options.check_stdin_once(patterns, token=token is not None, target=target)
        query = options.query_of(filters, run.clock.now())
        query = replace(query, hashes=_checked_hashes(hashed))
        query = _with_server(query, ctx, _found_token(token), target, run)
        warn_of_spans(run, evidence, filters.since, filters.until)
        in_full = token is not None or output.verbose > 0
        with RowsEvidence(evidence, run.command) as kept:
            plugins = options.plugin_names(plugin)
            return _answer(run, output, patterns, query, plugins, kept=kept, in_full=in_full)

    run_command("audit who", output, work, _view)


def _answer(
    run: CommandRun,
    output: RowsOutputOptions,
    patterns: Sequence[str],
    query: "Query",
    plugins: tuple[str, ...],
    *,
    kept: RowsEvidence,
    in_full: bool,
) -> CommandResult:
    from skyflowctl.audit.search import Search
    from skyflowctl.cli.commands.audit.rows import ReaderGoneError, RowWriter
    from skyflowctl.cli.commands.audit.view import scan_counts

    sources = options.open_logs(patterns, digest=kept.wanted)
    answers = Search(sources, query, plugins)
    rows = RowWriter(run, output.format, in_full=in_full)
    try:
        for one in answers:
            rows.add(one)
            kept.add(one)
        rows.flush()
    except ReaderGoneError:
        return CommandResult({})
    kept.finish(run, sources, answers.counts(), asked_json(patterns, plugins, query))
    data = {"requests": rows.kept} if output.format == "json" else {}
    summary = {
        "found": answers.found,
        "certain": answers.certain,
        "read": scan_counts(answers.counts()),
        "all_lines_checked": not answers.filtered_early,
    }
    return CommandResult({**data, "summary": summary}, warnings=tuple(answers.warnings()))


def _view(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.cli.commands.audit.view import found_words, note_wrapped, read_words

    if result.data:
        summary = result.data["summary"]
        found = counted(summary["found"], "request") if summary["found"] else "no such request"
        terminal.out.flush()
        read = read_words(summary["read"], all_lines=summary["all_lines_checked"])
        note_wrapped(f"{found_words(found, certain=summary['certain'])}; {read}", terminal)


def _checked_hashes(given: Sequence[str] | None) -> tuple[str, ...]:
    from skyflowctl.audit.ctx import is_hash

    for one in given or ():
        if not is_hash(one):
            raise UsageError(
                "--hashed is not a hash from an audit log",
                why="it is hmac-sha256: and 64 hexadecimal digits",
                fix="copy it from the log, or ask: bao write sys/audit-hash/DEVICE input=-",
            )
    return tuple(given or ())


def _found_token(flag: str | None) -> Secret | None:
    """Return the token on stdin.

    Raises:
        UsageError: it is on the command line, or stdin holds no token.
    """
    if flag is None:
        return None
    if flag != "-":
        raise UsageError(
            "--token takes only -",
            why="a token on a command line is seen by every process of the machine",
            fix="give it on stdin: skyflowctl audit who --token - < FILE",
            code="token-in-argv",
        )
    text = sys.stdin.read(MAX_TOKEN + 1).strip().removeprefix("Bearer ").strip()
    if not text or len(text) > MAX_TOKEN or len(text.split()) > 1:
        raise UsageError(
            "there is no token on stdin",
            why="it holds nothing, more than one word, or more than 64 KiB",
            fix="give the bearer alone, as it was found",
        )
    return Secret(text)


def _with_server(
    query: "Query",
    ctx: Sequence[str] | None,
    token: Secret | None,
    target: TargetOptions,
    run: CommandRun,
) -> "Query":
    """Return the query with every hash of ctx and token, as read from the server."""
    from skyflowctl.audit.wanted import unhashed, wanted_ctx

    texts = [options.parsed_ctx(one) for one in ctx or ()]
    if not token and not (texts and gateways.server_is_named(target)):
        return replace(query, ctx=tuple(wanted_ctx(one, unhashed) for one in texts))
    from skyflowctl.vault.audit_hashes import Hasher

    try:
        with gateways.open_gateway(target, run) as gateway:
            hasher = Hasher(gateway)
            found = tuple(wanted_ctx(one, hasher) for one in texts)
            hashes = _hashes_of(token, hasher) if token else ()
            device_hashes = hasher("Bearer")
    except SkyflowctlError as error:
        if token:
            raise
        run.warn(options.hashes_not_asked(error))
        found, hashes = tuple(wanted_ctx(one, unhashed) for one in texts), ()
        device_hashes = ()
    return replace(query, ctx=found, hashes=(*query.hashes, *hashes), device_hashes=device_hashes)


def _hashes_of(token: Secret, hasher: "Hasher") -> tuple[str, ...]:
    found = hasher(token)
    if not found:
        raise UsageError(
            "the server has no audit device that hashes",
            why="sys/audit lists none",
            fix="name the server that wrote the log",
            code="no-audit-device",
        )
    return found
