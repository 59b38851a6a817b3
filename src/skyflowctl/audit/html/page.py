"""The whole page: one file that loads nothing, runs only its own script and sends nothing.

A browser is held to that by the page's policy: styles and scripts run only if they have
the very digest that is named there, and nothing else is allowed at all. What the log says
stands in text, quoted attributes and the text of drawings, never in a script or a style.
"""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from skyflowctl.audit.html import sections
from skyflowctl.audit.html.bars import top_apps
from skyflowctl.audit.html.heat import heat_maps
from skyflowctl.audit.html.text import counted, day, number, percent
from skyflowctl.audit.html.timeline import timeline
from skyflowctl.audit.report_model import Report
from skyflowctl.version import __version__

TITLE = "Skyflow token audit"
OPENING = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="generator" content="skyflowctl audit report">\n'
)
"""How every page begins, so that an earlier one is told from another's file."""


def render(report: Report) -> str:
    """Return the report as one HTML page; the same report gives the same page.

    Every text of the report is escaped, lone surrogates too, so that the page can be
    written as UTF-8 whatever the log holds.
    """
    style, script = _own("style.css"), _own("script.js")
    parts = [
        ("unusual", "What is unusual", "Unusual", sections.unusual(report)),
        ("time", "Requests over time", "Over time", timeline(report.series)),
        ("when", "When tokens are asked for", "When", heat_maps(report.heat)),
        ("apps", "Who asks most", "Who", top_apps(report.top_apps)),
        ("usage", "Every use, by role and app", "Every use", sections.usage(report)),
        ("changes", "Credential changes", "Credentials", sections.changes(report)),
        ("grounds", "What this report rests on", "Grounds", sections.grounds(report)),
    ]
    body = "".join(_section(ident, heading, content) for ident, heading, _, content in parts)
    links = "".join(f'<li><a href="#{ident}">{short}</a></li>' for ident, _, short, _ in parts)
    return (
        f"{OPENING}{_head(report, style, script)}</head>\n"
        '<body>\n<a class="skip" href="#main">Skip to the report</a>\n'
        f"{_header(report)}"
        f'<nav aria-label="Parts of this report"><ul>{links}</ul></nav>\n'
        f'<main id="main" tabindex="-1">\n{_figures(report)}{body}</main>\n'
        f"<footer><p>Made by skyflowctl {__version__} from the server's audit log. "
        "All times are UTC. This page loads nothing and sends nothing.</p></footer>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _own(name: str) -> str:
    return files("skyflowctl.audit.html").joinpath(name).read_text(encoding="utf-8")


def _digest(source: str) -> str:
    return f"'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'"


def policy(style: str, script: str) -> str:
    """Return the page's content security policy for its style and its script."""
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _head(report: Report, style: str, script: str) -> str:
    return (
        f'<meta http-equiv="Content-Security-Policy" content="{policy(style, script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="robots" content="noindex">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{TITLE}, {_span(report)}</title>\n<style>{style}</style>\n"
    )


def _header(report: Report) -> str:
    return (
        '<header><div class="top"><p class="eyebrow">skyflowctl audit report</p>'
        '<button type="button" id="theme" hidden></button></div>'
        f'<h1>{TITLE}</h1><p class="span">{_span(report)}</p>'
        f'<p class="lead">{_lead(report)}</p>{_doubts(report)}</header>\n'
    )


def _span(report: Report) -> str:
    first, last = report.range.first, report.range.last
    if first is None or last is None:
        return "nothing in this range"
    if first.date() == last.date():
        start, end = f"{first:%H:%M}", f"{last:%H:%M}"
        return f"{day(first)}, {start if start == end else f'{start} to {end}'} UTC"
    return f"{day(first)} to {day(last)}, UTC"


def _lead(report: Report) -> str:
    totals = report.totals
    tally = totals.tally
    if not tally.requests:
        return "Nobody asked for a Skyflow token in this range."
    asked = (
        f"{counted(totals.apps, 'app')} asked {counted(tally.requests, 'time')} for a token, on "
        f"{counted(totals.roles, 'role')} of {counted(totals.mounts, 'mount')}."
    )
    look = (
        f"{counted(totals.unusual, 'finding')} {_looks(totals.unusual)}."
        if totals.unusual
        else "Nothing unusual was found."
    )
    return f"{asked} {look}"


def _looks(findings: int) -> str:
    return {0: "nothing found", 1: "needs a look"}.get(findings, "need a look")


def _doubts(report: Report) -> str:
    """Return what a reader must know before trusting the figures; empty for nothing."""
    damaged = sum(count for _, count in report.counts.damaged)
    doubts = [f"{counted(damaged, 'line')} could not be used"] if damaged else []
    if report.limits:
        doubts.append(f"{counted(len(report.limits), 'limit')} reached, so parts are left out")
    if not doubts:
        return ""
    return (
        f'<p class="doubt"><strong>Not the whole log:</strong> {"; ".join(doubts)}. '
        '<a href="#grounds">What this report rests on</a></p>'
    )


def _figures(report: Report) -> str:
    totals = report.totals
    tally = totals.tally
    wrapped = f"{number(totals.wrapped)} behind a wrapping token" if totals.wrapped else ""
    shown = [
        ("Requests", number(tally.requests), f"by {counted(totals.apps, 'app')}"),
        (
            "Got a token",
            percent(tally.granted, tally.requests),
            wrapped or counted(tally.granted, "token"),
        ),
        ("Without a token", number(tally.requests - tally.granted), sections.endings(tally)),
        ("Unusual", number(totals.unusual), _looks(totals.unusual)),
        ("Credential changes", number(totals.changes), ""),
    ]
    tiles = "".join(
        f'<div><dt>{term}</dt><dd><span class="big">{value}</span>'
        f'<span class="note">{note}</span></dd></div>'
        for term, value, note in shown
    )
    return f'<section aria-label="In short"><dl class="tiles">{tiles}</dl></section>\n'


def _section(ident: str, heading: str, content: str) -> str:
    return (
        f'<section id="{ident}" aria-labelledby="{ident}-h"><h2 id="{ident}-h">{heading}</h2>'
        f"{content}</section>\n"
    )
