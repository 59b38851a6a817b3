"""Who is affected by a plan, as lines of text; every app and consumer is in the JSON."""

from collections.abc import Iterator, Mapping
from typing import Any

from skyflowctl.text import counted, listed

_SHOWN = 5
"""The apps that are shown of each object, those with the newest requests."""

ActionKey = tuple[str, str, str]


def action_key(action: Mapping[str, Any]) -> ActionKey:
    """Return what tells an action of a plan from all others."""
    return action["action"], action["mount"], action["path"]


def users_by_action(data: Mapping[str, Any]) -> dict[ActionKey, Mapping[str, Any]]:
    """Return the affected objects of a plan's data by the action that affects them."""
    return {action_key(one): one for one in data.get("impact", {}).get("objects", ())}


def user_lines(
    affected: Mapping[str, Any], log: Mapping[str, Any] | None
) -> Iterator[tuple[str, str]]:
    """Yield labels and texts: who used an object, and which consumers are bound to it."""
    if (used := affected["used"]) is not None:
        texts = list(_use_texts(used)) or [_unused(log)]
        yield from zip(("used by", *[""] * len(texts)), texts, strict=False)
    if affected["consumers"]:
        yield "consumers", listed([one["name"] for one in affected["consumers"]])


def logs_line(data: Mapping[str, Any]) -> str:
    """Return what was read of audit logs, and how far it can be trusted; empty: none were given."""
    impact = data.get("impact")
    if impact is None or (impact["log"] is None and impact["objects"]):
        return ""
    if (log := impact["log"]) is None:
        return (
            "Audit logs: not read, because no role, mount or credential that exists is removed or "
            "changed."
        )
    if log["start"] is None:
        return "Audit logs: no entry could be read, so it is not known who used what."
    doubt = f"; not certain: {log['unread']}" if log["unread"] else ""
    return f"Audit logs: {_to_second(log['start'])} to {_to_second(log['end'])}{doubt}."


def _use_texts(used: Mapping[str, Any]) -> Iterator[str]:
    for one in used["by"][:_SHOWN]:
        auth = f" ({one['auth']})" if one["auth"] else ""
        times = f"{_times(one['requests'])}, last {_to_second(one['last'])}"
        yield f"{one['app'] or 'unknown'}{auth}: {times}"
    if more := used["by"][_SHOWN:]:
        number = sum(one["requests"] for one in more)
        yield f"{counted(len(more), 'more app')}: {_times(number)}"


def _to_second(time: str) -> str:
    """Return a time in RFC 3339 without its fraction."""
    return time if "." not in time else f"{time.partition('.')[0]}Z"


def _times(number: int) -> str:
    return counted(number, "time", grouped=True)


def _unused(log: Mapping[str, Any] | None) -> str:
    certain = log is not None and log["certain"]
    return "nobody in these logs" if certain else "nobody in what could be read"
