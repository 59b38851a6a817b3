"""What logs cannot show about an incident: as codes and sentences, never as silence."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from skyflowctl.audit.incident import Incident, SubjectKind
from skyflowctl.audit.search import Search, unread_words
from skyflowctl.audit.sources import LogFile, Sources, Stream
from skyflowctl.audit.spans import Span, span_of
from skyflowctl.audit.times import parse_utc, utc_text
from skyflowctl.clock import rfc3339
from skyflowctl.text import counted

SILENCE = timedelta(hours=1)
"""Between two files of one log, a longer time without an entry is reported."""
_NUMBER = re.compile(r"(.*?)\.(\d{1,5})((?:\.(?:gz|zst|zstd))?)")


class Gap(NamedTuple):
    """Something that the logs do not show, as a sentence."""

    code: str
    text: str


def gaps(
    incident: Incident,
    found: Search,
    sources: Sources,
    asked: tuple[datetime | None, datetime | None],
) -> tuple[Gap, ...]:
    """Return everything that the logs do not show.

    Args:
        incident: what was found.
        found: the completed search.
        sources: the logs.
        asked: the first moment that was asked for, and the end.
    """
    return (
        *_of_files(sources),
        *_of_range(found.covered, *asked),
        *_of_lines(found),
        *_of_tokens(incident, found),
        *_outside(incident),
    )


def _of_files(sources: Sources) -> Iterator[Gap]:
    for stream in sources.streams:
        yield from _missing_numbers(stream)
        spans = [(file, span_of(file.path)) for file in stream.files]
        for (before, one), (after, two) in pairwise(spans):
            yield from _silence(before, one, after, two)


def _missing_numbers(stream: Stream) -> Iterator[Gap]:
    """Yield the numbers that rotation gave and that are not among the files."""
    numbers: dict[str, set[int]] = {}
    for file in stream.files:
        match = _NUMBER.fullmatch(file.name)
        if match:
            numbers.setdefault(match[1], set()).add(int(match[2]))
    for stem, known in sorted(numbers.items()):
        missing = sorted(set(range(min(1, *known), max(known))) - known)
        if missing:
            names = ", ".join(f"{stem}.{number}" for number in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            yield Gap("missing-file", f"rotated files were not given: {names}{more}")


def _silence(before: LogFile, one: Span, after: LogFile, two: Span) -> Iterator[Gap]:
    """Yield a long time without an entry between two files."""
    end, start = utc_text(f"{one.end}Z"), utc_text(f"{two.start}Z")
    if one.end == one.start or end is None or start is None:
        return  # the end of a compressed file is not known
    last, first = parse_utc(end), parse_utc(start)
    if first - last > SILENCE:
        yield Gap(
            "silence",
            f"no entry between {_minute(last)} (the end of {before.name}) and {_minute(first)} "
            f"(the start of {after.name}): a file may be missing, or the server did nothing",
        )


def _of_range(
    covered: Mapping[str, tuple[str, str]], since: datetime | None, until: datetime | None
) -> Iterator[Gap]:
    for node, (start, end) in sorted(covered.items()):
        first, last = parse_utc(start), parse_utc(end)
        of = f"the log of {node}" if node else "the log"
        if since is None or first > since:
            yield Gap("log-start", f"{of} begins at {_minute(first)}: nothing before that is known")
        if until is not None and last < until:
            yield Gap("log-end", f"{of} ends at {_minute(last)}, before the end that was asked for")
    ends = {node: parse_utc(end) for node, (_, end) in covered.items()}
    newest = max(ends.values(), default=None)
    for node, end_ in sorted(ends.items()):
        if newest is not None and newest - end_ > SILENCE:
            yield Gap(
                "node-behind",
                f"the log of {node or 'one node'} ends at {_minute(end_)}, that of another node "
                f"at {_minute(newest)}: its newest file may be missing",
            )


def _of_lines(found: Search) -> Iterator[Gap]:
    counts = found.counts()
    if not counts.certain:
        yield Gap("damaged-log", unread_words(counts))
    for problem in found.warnings():
        if problem.code in {"foreign-hashes", "hashed-ctx", "glob-on-hashes"}:
            yield Gap(problem.code, problem.summary)
    if found.filtered_early:
        yield Gap(
            "not-decoded",
            "lines without the searched text were not decoded: damaged ones among them are not "
            "counted",
        )


def _of_tokens(incident: Incident, found: Search) -> Iterator[Gap]:
    tallies = incident.tallies
    texts = {
        "no-answer": ("have no answer in the log", "whether a token was issued is not known"),
        "no-end": (
            "have no end in the log",
            "a bearer lives about 60 minutes, a signature for at most its role's sign_max_ttl",
        ),
        "not-opened": (
            "were returned wrapped, and the logs show no unwrap",
            "who holds them is not known",
        ),
        "no-app": ("were requested by a server token whose login is not known", ""),
        "hashed-ctx": ("show their ctx as a hash only", "the server can compare it, not reveal it"),
    }
    for code, (what, why) in texts.items():
        if number := tallies[code]:
            yield Gap(code, f"{counted(number, 'token')} {what}" + (f": {why}" if why else ""))
    if incident.subject.kind is not SubjectKind.KEY:
        return
    yield Gap(
        "no-answer-no-key",
        "requests without an answer in the log name no key, so none of them is listed: --app or "
        "--ctx finds them",
    )
    if number := incident.unplaced + tallies["wrapped-left-out"]:
        yield Gap(
            "wrapped-key",
            f"{counted(number, 'wrapped token')} of other mounts or times name no key in the "
            "log; by the changes of the live key they are of another one, or cannot be placed",
        )
    if found.hashed_keys and not tallies["hashed-key"]:
        yield Gap(
            "hashed-keys",
            "answers name their key as a hash: of mounts whose audit settings were not applied. "
            "Tokens of this key among them are found only if the server is named",
        )


def _outside(incident: Incident) -> Iterator[Gap]:
    yield Gap(
        "use", "whether a token was used, and for what, is in Skyflow's own logs, not in these"
    )
    if incident.subject.kind is SubjectKind.KEY:
        yield Gap(
            "outside",
            "tokens that were made with a copy of the key outside this server are not in its log",
        )
    yield from (Gap("limit", text) for text in incident.limits)


def _minute(time: datetime) -> str:
    return rfc3339(time.replace(microsecond=0))
