"""Who a token belongs to: logins joined to what was done with their tokens.

A login's response names the token's accessor, hashed as this device hashes it, so both
devices' logins are kept. A batch token has no accessor: its entity stands for it.
"""

from collections import OrderedDict

from skyflowctl.audit.entries import Auth, Entry, LoggedRequest

LOGINS_MAX = 50_000
"""Logins that are remembered: about 15 MB. The oldest is forgotten first; the entry's own
metadata then names the app."""

_TOKEN = "token"  # noqa: S105 - a method's name
_CREATE = "auth/token/create"

AppIdentity = tuple[str, str]
"""The app and how it logged in."""


class Logins:
    """What the log said about logins so far."""

    def __init__(self) -> None:
        self._by_accessor: OrderedDict[str, str] = OrderedDict()
        self._by_entity: OrderedDict[str, str] = OrderedDict()

    def learn(self, entry: Entry) -> None:
        """Take in a response; it counts only if it handed out a token."""
        response, request = entry.response, entry.request
        if response is None or response.auth is None or entry.error:
            return
        method = _method(request)
        if not method:
            return
        auth = response.auth
        if auth.accessor:
            _remember(self._by_accessor, auth.accessor, method)
        # A child token carries its parent's entity, which says nothing about the parent.
        if auth.entity_id and method != _TOKEN:
            _remember(self._by_entity, auth.entity_id, method)

    def identity(self, auth: Auth) -> AppIdentity:
        """Return the app and the method of a token, as a request's entry shows it."""
        method = self._by_accessor.get(auth.accessor, "") if auth.accessor else ""
        if not method:
            method = _guess(auth) or self._by_entity.get(auth.entity_id, "")
        return _app(auth, method), method


def _remember(known: OrderedDict[str, str], key: str, method: str) -> None:
    known[key] = method
    known.move_to_end(key)
    if len(known) > LOGINS_MAX:
        known.popitem(last=False)


def _method(request: LoggedRequest) -> str:
    """Return how a response's token came about; empty for a renewal or a look-up."""
    path = request.path
    if not path.startswith("auth/"):
        return ""
    if request.mount_type == _TOKEN or path.startswith("auth/token/"):
        return _TOKEN if path.startswith(_CREATE) else ""
    # Older servers do not name the type; the mount's path is the best there is.
    return request.mount_type or path.split("/")[1]


def _app(auth: Auth, method: str) -> str:
    """Return the login's own name.

    Whoever creates a token chooses its metadata: a child token that says
    ``role_name=orders`` is not the app orders. Only a login's metadata is the server's.
    """
    metadata = auth.metadata
    if metadata and method != _TOKEN:
        name = metadata.get("role_name") if method == "approle" else metadata.get("username")
        if name:
            return name
    return auth.display_name


def _guess(auth: Auth) -> str:
    """Return the method as the token itself tells it, its login being outside the log."""
    display = auth.display_name
    # What auth/token/create makes is called token or token-<name>, whoever asks.
    if display in ("root", _TOKEN) or display.startswith("token-"):
        return _TOKEN
    metadata = auth.metadata
    if not metadata:
        return ""
    if "role_name" in metadata:
        return "approle"
    user = metadata.get("username")
    if user and display.endswith(f"-{user}"):
        # The display name starts with the mount's path, by default the method's name.
        return display[: -len(user) - 1]
    return ""
