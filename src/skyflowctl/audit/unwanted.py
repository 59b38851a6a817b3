"""Finds what should not exist at all: root tokens, role ids changed by hand, undeclared roles."""

from skyflowctl.audit.join import JoinedRow
from skyflowctl.audit.model import ChangeKind, CredentialChange, RequestOutcome
from skyflowctl.audit.report_model import Unusual, UnusualKind
from skyflowctl.audit.unusual import Group

ROOTS_MAX = 1_000
"""The most names and addresses of root tokens that are counted separately."""


class _Use:
    """The requests of one root token."""

    def __init__(self) -> None:
        self.group = Group()
        self.tokens = self.changes = 0

    def add(self, row: JoinedRow) -> None:
        done = int(row.outcome is RequestOutcome.GRANTED)
        self.group.add(1, done, row.time, row.time)
        self.tokens += row.change is None
        self.changes += row.change not in (None, ChangeKind.ROOT_TOKEN_USED)


class RootUses:
    """Counts the requests of root tokens by name and remote address."""

    def __init__(self) -> None:
        self._uses: dict[tuple[str, str], _Use] = {}

    def add(self, row: JoinedRow) -> None:
        """Add a request of a root token."""
        key = (row.app, row.entry.request.remote_address)
        use = self._uses.get(key)
        if use is None:
            if len(self._uses) >= ROOTS_MAX:
                key = ("", "")
            use = self._uses.setdefault(key, _Use())
        use.add(row)

    def findings(self) -> list[Unusual]:
        """Return a finding for each name and address."""
        return [_root_use(*key, use) for key, use in sorted(self._uses.items())]


def _root_use(name: str, address: str, use: _Use) -> Unusual:
    others = use.group.count - use.tokens - use.changes
    parts = [
        f"{number} {words}"
        for number, words in (
            (use.tokens, "for Skyflow tokens"),
            (use.changes, "for changes"),
            (others, "for anything else"),
        )
        if number
    ]
    where = f"from {address or 'an unknown address'}"
    detail = f"a root token, which no policy limits, made requests {where}: {', '.join(parts)}"
    return use.group.finding(UnusualKind.ROOT_TOKEN, ("", "", name, "token"), detail)


def role_id_changed(change: CredentialChange) -> Unusual | None:
    """Return the finding for a role whose role id was changed without a run of skyflowctl."""
    field = next((one for one in change.fields if one.field == "role_ids"), None)
    by_hand = change.kind is ChangeKind.ROLE_WRITTEN and not change.run_id
    if (
        not by_hand
        or field is None
        or change.created
        or change.outcome is not RequestOutcome.GRANTED
    ):
        return None
    was = f"from {field.before}" if field.before else "from a value that the logs do not show"
    return Unusual(
        UnusualKind.ROLE_ID_CHANGED,
        change.mount,
        change.name,
        change.caller.app,
        change.caller.auth,
        f"role_ids changed {was} to {field.after or 'none'}, without a run of skyflowctl",
        1,
        1,
        change.time,
        change.time,
    )


def undeclared_detail(*, known_mount: bool) -> str:
    """Return what is not declared."""
    if known_mount:
        return "tokens were issued for a role that is not declared on this mount"
    return "tokens were issued on a mount that is not declared"
