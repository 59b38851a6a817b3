"""The page of an incident: what was found, what is not known, and room for a signature."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from skyflowctl.audit.html import labels
from skyflowctl.audit.html.page import rendered
from skyflowctl.audit.incident import Incident, SubjectKind
from skyflowctl.frozen import dataclass

_ROWS_MAX = 2_000
"""The most tokens on the page; ``tokens.csv`` beside it has all."""
_TITLES = {SubjectKind.KEY: "Key", SubjectKind.APP: "Application", SubjectKind.CTX: "Context"}


@dataclass(frozen=True, slots=True)
class PagePreparation:
    """Who made the page, when, and in which run of skyflowctl."""

    author: str
    time: datetime
    run_id: str


def render_incident(incident: Incident, data: Mapping[str, Any], made: PagePreparation) -> str:
    """Return the page.

    Args:
        incident: what was found.
        data: the same as in the command's JSON, with what is not known and the files.
        made: who made it.
    """
    return rendered(
        "incident.html.j2",
        title=_TITLES[incident.subject.kind],
        about=labels.INCIDENT_COLUMNS,
        incident=incident,
        tokens=incident.tokens[:_ROWS_MAX],
        data=data,
        made=made,
    )
