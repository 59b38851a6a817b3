"""Decodes one line of an audit log to a typed entry. No content of a line raises.

Only the fields that are used are decoded; the decoder skips the rest.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

NOT_JSON = "not-json"
NOT_AN_ENTRY = "not-an-entry"
WRONG_TYPES = "wrong-types"
TOO_DEEP = "too-deep"
NUL_BYTES = "nul-bytes"


class GrantingPolicy(msgspec.Struct, gc=False):
    """A policy that allowed a request."""

    name: str = ""


class PolicyResults(msgspec.Struct, gc=False):
    """The result of the server's access rules."""

    allowed: bool = False
    granting_policies: list[GrantingPolicy] | None = None


class Auth(msgspec.Struct, gc=False):
    """The token of a request, or the token that a login returned."""

    accessor: str = ""
    display_name: str = ""
    policies: list[str] | None = None
    policy_results: PolicyResults | None = None
    metadata: dict[str, str] | None = None
    entity_id: str = ""
    token_type: str = ""


class Namespace(msgspec.Struct, gc=False):
    """The namespace of a request."""

    id: str = ""
    path: str = ""


class Headers(
    msgspec.Struct,
    gc=False,
    rename={"claimed": "application-source", "run": "x-skyflowctl-run"},
):
    """The audited headers that are used here; the server logs their names in lower case."""

    claimed: list[str] | None = None
    run: list[str] | None = None


class RequestData(msgspec.Struct, gc=False):
    """The fields of a request that are used here; callers may send any type."""

    ctx: Any = None
    token: Any = None
    credentials_json: Any = None
    credentials_file_path: Any = None
    rotation_id: Any = None
    rotation_to: Any = None
    accessor: Any = None
    skyflowctl_guard_probe: Any = None
    reason: Any = None
    ttl: Any = None


class LoggedRequest(msgspec.Struct, gc=False):
    """The request of an entry."""

    id: str = ""
    operation: str = ""
    mount_point: str = ""
    mount_type: str = ""
    client_token: str = ""
    namespace: Namespace | None = None
    path: str = ""
    data: RequestData | None = None
    remote_address: str = ""
    wrap_ttl: int = 0
    headers: Headers | None = None


class ResponseData(msgspec.Struct, gc=False):
    """The fields of a response that are used here."""

    access_token: Any = None
    key_id: Any = None
    error: Any = None
    approved: Any = None
    expires_at: Any = None
    ttl: Any = None
    reused: Any = None


class LoggedWrap(msgspec.Struct, gc=False):
    """A wrapping token that the server issued."""

    ttl: int = 0
    token: str = ""
    accessor: str = ""


class Response(msgspec.Struct, gc=False):
    """The response of an entry."""

    auth: Auth | None = None
    data: ResponseData | None = None
    wrap_info: LoggedWrap | None = None


class Entry(msgspec.Struct, gc=False, rename={"details": "~details"}):
    """One line: a request, or a request and its response.

    ``details`` holds all fields of the request and answer where they are needed; it is our
    own field, not one of the log.
    """

    type: str
    request: LoggedRequest
    time: str = ""
    auth: Auth | None = None
    response: Response | None = None
    error: str = ""
    details: Any = None


class _RawAuthEntry(Entry, gc=False, rename={"details": "~details"}):
    """An entry whose auth is not decoded yet."""

    auth: msgspec.Raw = msgspec.Raw(b"null")  # type: ignore[assignment]


_decoder = msgspec.json.Decoder(Entry)
_decode = _decoder.decode
_raw_auth_decoder = msgspec.json.Decoder(_RawAuthEntry)
_decode_auth = msgspec.json.Decoder(Auth | None).decode

AUTHS_MAX = 5_000
"""The most tokens whose auth is kept: 15 MB."""
_VARIANTS_MAX = 8
"""The most auths of one token that are kept: the policies that grant a request differ by path."""


class SharedAuths:
    """Decodes each auth once: the entries of a token have the same bytes there.

    Entries with equal auths share one object, which must not be changed.
    """

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[msgspec.Raw, Auth | None]]] = {}

    def fill(self, entries: Sequence[_RawAuthEntry]) -> Sequence[Entry]:
        """Decode the auths of entries, in place."""
        get = self._known.get
        for entry in entries:
            raw: Any = entry.auth
            for known, auth in get(entry.request.client_token, ()):
                if known == raw:
                    entry.auth = auth  # type: ignore[assignment]
                    break
            else:
                entry.auth = self._learn(entry.request.client_token, raw)  # type: ignore[assignment]
        return entries

    def _learn(self, token: str, raw: msgspec.Raw) -> Auth | None:
        auth: Auth | None = _decode_auth(raw)
        if len(self._known) >= AUTHS_MAX:
            self._known.clear()
        variants = self._known.setdefault(token, [])
        if len(variants) < _VARIANTS_MAX:
            variants.append((raw.copy(), auth))
        return auth


def decode_line(line: bytes) -> Entry | str:
    """Return the entry of a line, or the reason why it has none.

    If a line has several auths, which no server writes, only the last one counts.
    """
    try:
        return _decode(line)
    except msgspec.ValidationError:
        return _with_last_auth(line) or _reason(line)
    except UnicodeDecodeError:
        return _with_last_auth(line) or NOT_JSON
    except msgspec.DecodeError:
        return NOT_JSON
    except RecursionError:
        return TOO_DEEP


def _with_last_auth(line: bytes) -> Entry | None:
    found = decode_lines(memoryview(line), SharedAuths())
    return found[0] if found is not None and len(found) == 1 else None


def decode_all(lines: Sequence[bytes]) -> list[Entry] | None:
    """Return the entries of lines; None if one line is no entry. Faster than one by one."""
    try:
        return list(map(_decode, lines))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def decode_lines(content: memoryview, auths: SharedAuths | None = None) -> Sequence[Entry] | None:
    """Return the entries in lines; None if one is none. A line's end is a blank like any other:
    the caller must know that each line holds one value."""
    try:
        if auths is None:
            return _decoder.decode_lines(content)
        return auths.fill(_raw_auth_decoder.decode_lines(content))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _reason(line: bytes) -> str:
    """Return what is wrong with a line that is JSON (up to where it was read)."""
    try:
        whole = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return NOT_JSON
    except RecursionError:
        return TOO_DEEP
    if isinstance(whole, dict) and "type" in whole and "request" in whole:
        return WRONG_TYPES
    return NOT_AN_ENTRY
