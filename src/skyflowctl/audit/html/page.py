"""The whole page: one file that loads nothing, runs only its own script and sends nothing.

The page's content security policy enforces that: styles and scripts run only if their digest
is named there, and everything else is forbidden. Content of the log appears in text, quoted
attributes and the text of drawings, never in a script or a style.
"""

from base64 import b64encode
from datetime import timedelta
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from skyflowctl.audit.ctx import is_hash
from skyflowctl.audit.html import OPENING, charts, filters, labels
from skyflowctl.audit.html.timeline import timeline
from skyflowctl.audit.report_model import Report
from skyflowctl.text import size
from skyflowctl.version import __version__

_FILTERS = (
    filters.amount,
    filters.isolated,
    filters.number,
    filters.percent,
    filters.shortened,
    filters.stamp,
    size,
)


def render(report: Report) -> str:
    """Return the report as one HTML page; the same report gives the same page.

    Every text of the report is escaped, lone surrogates too, so that the page can be
    written as UTF-8 whatever the log holds.
    """
    heaviest = sorted(
        report.usage,
        key=lambda row: (-row.tally.requests, row.mount, row.role, row.app, row.auth),
    )
    return rendered(
        "page.html.j2",
        report=report,
        span=_span(report),
        rows=heaviest,
        applied=[rule for rule in report.rules if not rule.not_applied],
        skipped=[rule for rule in report.rules if rule.not_applied],
        timeline_chart=timeline(report.series),
        heat_charts=charts.heat_maps(report.heat),
        apps_chart=charts.top_apps(report.top_apps),
    )


def rendered(template: str, **values: Any) -> str:
    """Return a page with our style and script, and the policy that allows these alone."""
    style, script = own_source("style.css"), own_source("script.js")
    own = {"opening": OPENING, "policy": policy(style, script), "version": __version__}
    page = environment().get_template(template)
    return page.render(own, style=style, script=script, **values)


def environment() -> Environment:
    """Return templates that escape everything they print, and fail on a missing name."""
    environment = Environment(
        loader=PackageLoader("skyflowctl.audit.html"),
        autoescape=True,
        finalize=filters.printable,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.do"],
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        optimized=False,  # a template is used once, and folding constants takes longer
    )
    environment.filters |= {each.__name__: each for each in _FILTERS}
    environment.tests["hash"] = is_hash
    environment.globals |= {
        "sections": labels.SECTIONS,
        "columns": labels.COLUMNS,
        "kinds": labels.KINDS,
        "change_names": labels.CHANGES,
        "outcomes": labels.OUTCOMES,
    }
    return environment


def own_source(name: str) -> str:
    """Return a style or script of this package."""
    return files("skyflowctl.audit.html").joinpath(name).read_text(encoding="utf-8")


def _digest(source: str) -> str:
    return f"'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'"


def policy(style: str, script: str) -> str:
    """Return the page's content security policy for its style and its script."""
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _span(report: Report) -> str:
    """Return the period: the requested one, else the one that the logs cover."""
    first = report.range.since or report.range.first or report.range.log_first
    last = report.range.last
    if report.range.until is not None:
        last = report.range.until - timedelta(microseconds=1)
    if first is None or last is None or last < first:
        return "no requests in this period"
    if first.date() == last.date():
        start, end = f"{first:%H:%M}", f"{last:%H:%M}"
        return f"{filters.day(first)}, {start if start == end else f'{start} to {end}'} UTC"
    return f"{filters.day(first)} to {filters.day(last)}, UTC"
