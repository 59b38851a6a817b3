"""Joins logins to the requests of their tokens, to find the app that a token belongs to.

A login's response names the token's accessor, with the hash of this device, so the logins of
both devices are kept. A batch token has no accessor and is identified by its entity.
"""

from collections import OrderedDict
from itertools import islice

from skyflowctl.audit.entries import Auth, Entry, LoggedRequest

LOGINS_MAX = 50_000
"""The most logins that are remembered: about 15 MB. Beyond that the oldest is dropped, and the
entry's own metadata names the app."""

_TOKEN = "token"  # noqa: S105 - a method's name
_CREATE = "auth/token/create"

AppIdentity = tuple[str, str]
"""The app and how it logged in."""


class Logins:
    """The logins in the log so far."""

    def __init__(self) -> None:
        self._by_accessor: OrderedDict[str, str] = OrderedDict()
        self._by_entity: OrderedDict[str, str] = OrderedDict()

    def learn(self, entry: Entry) -> None:
        """Add a response; it counts only if it issued a token."""
        accessor, entity, method = taught_by(entry)
        if method and accessor:
            _remember(self._by_accessor, accessor, method)
        if method and entity:
            _remember(self._by_entity, entity, method)

    def may_forget(self, number: int) -> set[str]:
        """Return the accessors and entities that so many further logins may displace."""
        kinds = self._by_accessor, self._by_entity
        return {
            name
            for known in kinds
            for name in islice(known, max(0, min(number, len(known) + number - LOGINS_MAX)))
        }

    def identity(self, auth: Auth) -> AppIdentity:
        """Return the app and the auth method of the token in a request's entry."""
        method = self._by_accessor.get(auth.accessor, "") if auth.accessor else ""
        if not method:
            method = _guess(auth) or self._by_entity.get(auth.entity_id, "")
        return _app(auth, method), method


def taught_by(entry: Entry) -> tuple[str, str, str]:
    """Return the accessor and the entity of a token that a response issued, and how; the method
    is empty if it issued none."""
    response = entry.response
    if response is None or response.auth is None or entry.error:
        return "", "", ""
    method = _method(entry.request)
    # A child token has its parent's entity, which does not identify the parent's login.
    entity = response.auth.entity_id if method != _TOKEN else ""
    return response.auth.accessor, entity, method


def _remember(known: OrderedDict[str, str], key: str, method: str) -> None:
    known[key] = method
    known.move_to_end(key)
    if len(known) > LOGINS_MAX:
        known.popitem(last=False)


def _method(request: LoggedRequest) -> str:
    """Return the auth method that issued a response's token; empty for a renewal or look-up."""
    path = request.path
    if not path.startswith("auth/"):
        return ""
    if request.mount_type == _TOKEN or path.startswith("auth/token/"):
        return _TOKEN if path.startswith(_CREATE) else ""
    # Older servers do not log the type; the mount's path is the best substitute.
    return request.mount_type or path.split("/")[1]


def _app(auth: Auth, method: str) -> str:
    """Return the login's own name.

    The creator of a token chooses its metadata: a child token with ``role_name=orders`` is
    not the app orders. Only the metadata of a login is set by the server.
    """
    metadata = auth.metadata
    if metadata and method != _TOKEN:
        name = metadata.get("role_name") if method == "approle" else metadata.get("username")
        if name:
            return name
    return auth.display_name


def _guess(auth: Auth) -> str:
    """Derive the auth method from the token itself, because its login is not in the log."""
    display = auth.display_name
    # Tokens of auth/token/create are named token or token-<name>, whatever created them.
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
