"""``skyflowctl audit incident``."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

from skyflowctl.cli.command import READ_EXITS, command
from skyflowctl.cli.commands.audit import options
from skyflowctl.cli.commands.audit.evidence import (
    EvidenceRows,
    asked_json,
    check_evidence,
    warn_of_spans,
)
from skyflowctl.cli.commands.audit.options import LogsArgument, PluginOption
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import gateways
from skyflowctl.cli.envelope import CommandResult
from skyflowctl.cli.options import OUTPUT_PANEL, OutputOptions, TargetOptions, option
from skyflowctl.cli.runner import CommandRun, run_command
from skyflowctl.errors import SkyflowctlError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from skyflowctl.audit.incident import IncidentSubject
    from skyflowctl.audit.model import TokenRequest
    from skyflowctl.audit.query import Query

_SUBJECT_PANEL = "About what (one of these)"

KeyIdOption = Annotated[
    str | None,
    option("--key-id", help="A Skyflow key (key_id).", panel=_SUBJECT_PANEL, metavar="ID"),
]
AppOption = Annotated[
    str | None,
    option("--app", help="The name of a login.", panel=_SUBJECT_PANEL, metavar="APP"),
]
CtxOption = Annotated[
    str | None,
    option(
        "--ctx",
        help="A ctx: text, or a flat JSON object. Hashed values need the server.",
        panel=_SUBJECT_PANEL,
        metavar="CTX",
    ),
]
FromOption = Annotated[
    str | None,
    option(
        "--from",
        help="Tokens from then on: a day, RFC 3339, or a duration ago (24h, 7d).",
        panel=options.FILTER_PANEL,
        metavar="TIME",
    ),
]
ToOption = Annotated[
    str | None,
    option(
        "--to",
        help="Tokens before then; a day is included. Later changes are shown all the same.",
        panel=options.FILTER_PANEL,
        metavar="TIME",
    ),
]
EvidenceOption = Annotated[
    str | None,
    option(
        "--evidence",
        help="Also write incident.html (to print and sign), tables, every token, the digests "
        "of the logs, and SHA256SUMS to this folder.",
        panel=OUTPUT_PANEL,
        metavar="DIR",
    ),
]
PreparedByOption = Annotated[
    str | None,
    option(
        "--prepared-by",
        help="Who prepares incident.html (default: the user of this system).",
        panel=OUTPUT_PANEL,
        metavar="NAME",
    ),
]


@command(
    examples=[
        ("skyflowctl audit incident 'audit.log*' --key-id K", "a key was found somewhere"),
        ("skyflowctl audit incident --dev --app order-service", "a login was taken over"),
        ("skyflowctl audit incident audit.log --ctx order:ORD-42", "whose data was it?"),
        (
            "skyflowctl audit incident 'audit.log*' --key-id K --evidence incident",
            "with a page to sign, and digests",
        ),
        (
            "skyflowctl audit incident audit.log --app x --from 2026-11-22 -o json",
            "for programs, from a day on",
        ),
    ],
    exits=READ_EXITS,
    env=["SKYFLOWCTL_AUDIT_LOG"],
)
def incident(
    target: TargetOptions,
    output: OutputOptions,
    logs: LogsArgument = None,
    *,
    key_id: KeyIdOption = None,
    app: AppOption = None,
    ctx: CtxOption = None,
    from_: FromOption = None,
    to: ToOption = None,
    plugin: PluginOption = None,
    evidence: EvidenceOption = None,
    prepared_by: PreparedByOption = None,
) -> None:
    """Show every token that a key minted, that an app got, or that was issued for a ctx: who
    requested it, for which ctx, until when it is valid, and what was done since (rotations,
    rollbacks, cut-offs, with their run ids), from the server's audit logs.

    A bearer cannot be revoked, so 'alive until' is when the damage ends. What the logs cannot
    show is listed: gaps, missing files, hashed values, requests without an answer. Pass the
    rotated logs of every node. Each execution of a parked request is a token of its own."""

    def work(run: CommandRun) -> CommandResult:
        from skyflowctl.audit.incident_json import TOKEN_COLUMNS

        patterns = options.log_patterns(logs, dev=target.dev, address=target.address)
        options.check_stdin_once(patterns, target=target)
        asked = _asked(key_id, app, ctx)
        query = _query(asked, target, run, _times(from_, to, run))
        warn_of_spans(run, evidence, from_, to, names=("--from", "--to"))
        check_evidence(evidence)
        names = options.plugin_names(plugin)
        author = (prepared_by or _user()) if evidence is not None else ""
        with EvidenceRows(evidence, "tokens", TOKEN_COLUMNS) as files:
            return _answer(run, patterns, names, (asked, query), files=files, author=author)

    run_command("audit incident", output, work, _view)


def _answer(
    run: CommandRun,
    patterns: Sequence[str],
    names: tuple[str, ...],
    asked: "tuple[IncidentSubject, Query]",
    *,
    files: EvidenceRows,
    author: str,
) -> CommandResult:
    from skyflowctl.audit.as_json import inputs_json, time_json
    from skyflowctl.audit.evidence import Evidence
    from skyflowctl.audit.html.incident_page import PagePreparation, render_incident
    from skyflowctl.audit.incident import IncidentReader
    from skyflowctl.audit.incident_gaps import gaps
    from skyflowctl.audit.incident_json import incident_json, incident_tables
    from skyflowctl.audit.search import Search
    from skyflowctl.cli.commands.audit.view import scan_counts

    subject, query = asked
    sources = options.open_logs(patterns, digest=files.wanted)
    reader = IncidentReader(subject, query, _row_writer(subject, files))
    found = Search(sources, query, names, also=reader.watch)
    incident = reader.read(found)
    unknown = gaps(incident, found, sources, (query.since, query.until))
    data = {
        **incident_json(incident, unknown),
        "range": {"from": time_json(query.since), "to": time_json(query.until)},
        "certain": found.certain,
        "read": scan_counts(found.counts()),
        "inputs": inputs_json(sources.inputs()) if files.wanted else [],
    }
    if files.wanted:
        page = render_incident(incident, data, PagePreparation(author, run.clock.now(), run.id))
        files.complete(
            run,
            Evidence(
                command=run.command,
                query={**asked_json(patterns, names, query), "subject": data["subject"]},
                inputs=sources.inputs(),
                counts=found.counts(),
                first=incident.total.first,
                last=incident.total.last,
                results=data,
                tables=incident_tables(data),
                pages=(("incident.html", page),),
            ),
        )
    return CommandResult(data, warnings=tuple(found.warnings()))


def _row_writer(
    subject: "IncidentSubject", files: EvidenceRows
) -> "Callable[[TokenRequest], None]":
    """Return what writes a token. Only about a key, the key of one without an id was inferred."""
    from skyflowctl.audit.incident import SubjectKind
    from skyflowctl.audit.incident_json import token_json

    of_key = subject.kind is SubjectKind.KEY

    def write(token: "TokenRequest") -> None:
        files.write(token_json(token, inferred=of_key and not token.key_id))

    return write if files.wanted else lambda _: None


def _user() -> str:
    from getpass import getuser

    try:
        return getuser()
    except (OSError, KeyError):
        return "not known"


def _asked(key_id: str | None, app: str | None, ctx: str | None) -> "IncidentSubject":
    """Return what the incident is about.

    Raises:
        UsageError: it is about nothing, or about several things.
    """
    from skyflowctl.audit.globs import is_glob
    from skyflowctl.audit.incident import IncidentSubject, SubjectKind

    given = [
        IncidentSubject(kind, value)
        for kind, value in zip(SubjectKind, (key_id, app, ctx), strict=True)
        if value is not None
    ]
    if len(given) != 1 or not given[0].value:
        raise UsageError(
            "an incident is about one key, one app or one ctx",
            why=f"{len(given)} of --key-id, --app and --ctx have been given"
            if len(given) != 1
            else "the value is empty",
            fix="give one of --key-id ID, --app APP and --ctx CTX",
            code="incident-subject",
        )
    if given[0].kind is SubjectKind.APP and is_glob(given[0].value):
        raise UsageError(
            "--app has a wildcard",
            why="an incident is about one login, by its exact name",
            fix="give one name; 'skyflowctl audit who' shows them",
            code="incident-subject",
        )
    return given[0]


def _times(
    from_: str | None, to: str | None, run: CommandRun
) -> "tuple[datetime | None, datetime | None]":
    from skyflowctl.audit import times

    now = run.clock.now()
    first = times.since(from_, now, "--from") if from_ is not None else None
    end = times.until(to, now, "--to") if to is not None else None
    if first and end and end <= first:
        raise UsageError(
            "--to is not after --from",
            why="no request can be in between",
            fix="give the earlier time to --from",
        )
    return first, end


def _query(
    asked: "IncidentSubject",
    target: TargetOptions,
    run: CommandRun,
    times: "tuple[datetime | None, datetime | None]",
) -> "Query":
    """Return the query, with the hashes that the server makes of a key or a ctx."""
    from skyflowctl.audit.incident import SubjectKind
    from skyflowctl.audit.query import Query
    from skyflowctl.audit.wanted import Hashes, unhashed, wanted_ctx

    by_ctx = asked.kind is SubjectKind.CTX
    parsed = options.parsed_ctx(asked.value) if by_ctx else ""  # before the server is asked

    def query(hasher: Hashes) -> Query:
        value, (since, until) = asked.value, times
        if asked.kind is SubjectKind.APP:
            return Query(apps=(value,), since=since, until=until)
        hashes = hasher("Bearer")
        if asked.kind is SubjectKind.KEY:
            keys = (value, *hasher(value))
            return Query(keys=keys, device_hashes=hashes, since=since, until=until)
        ctx = (wanted_ctx(parsed, hasher),)
        return Query(ctx=ctx, device_hashes=hashes, since=since, until=until)

    if asked.kind is SubjectKind.APP or not gateways.server_is_named(target):
        return query(unhashed)
    from skyflowctl.vault.audit_hashes import Hasher

    try:
        with gateways.open_gateway(target, run) as gateway:
            return query(Hasher(gateway))
    except SkyflowctlError as error:
        run.warn(options.hashes_not_asked(error))
        return query(unhashed)


def _view(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.cli.commands.audit.incident_view import show_incident

    show_incident(result.data, terminal)
