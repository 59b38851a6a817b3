"""A query on the log: which token requests it selects, and which texts to search for."""

from collections.abc import Callable, Iterable
from datetime import datetime

from skyflowctl.audit.globs import any_glob, literals
from skyflowctl.audit.model import RequestOutcome, TokenRequest
from skyflowctl.audit.scan_options import ScanOptions, needle
from skyflowctl.audit.wanted import CtxWanted
from skyflowctl.frozen import dataclass

HASHED_CTX = b'"ctx":"hmac-sha256:'
"""A text in every log whose ctx is hashed; an object's ctx looks different."""

HASHED_KEY = b'"key_id":"hmac-sha256:'
"""A text in every answer whose key is hashed: of a mount whose audit settings were not applied."""

Test = Callable[[TokenRequest], bool]


@dataclass(frozen=True, slots=True)
class Query:
    """Selects requests. Values of one field are alternatives; all fields must match.

    Args:
        mounts: globs of mount paths. In a glob ``*`` is any text, ``?`` one character.
        roles: globs of roles.
        apps: globs of the login's own name.
        runs: run ids of skyflowctl.
        nodes: globs of the names of the streams.
        ctx: contexts.
        hashes: hashes of a ctx, a bearer or a server token, as a device logs them.
        device_hashes: the hashes of ``Bearer`` by the devices that were asked. Every token
            answer contains this text, so another hash means another server or device.
        keys: ids of the Skyflow keys that minted, plain and as each device hashes them.
        outcomes: how the requests ended.
        since: the first moment, inclusive; ``until`` is exclusive.
    """

    mounts: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    ctx: tuple[CtxWanted, ...] = ()
    hashes: tuple[str, ...] = ()
    device_hashes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    outcomes: tuple[RequestOutcome, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


def matcher(query: Query) -> Test:
    """Return a test for whether a request matches."""
    tests = [test for test in _tests(query) if test is not None]
    return lambda request: all(test(request) for test in tests)


def _tests(query: Query) -> Iterable[Test | None]:
    """Yield a test for each given field, cheap ones first."""
    since, until = query.since, query.until
    yield (lambda one: one.time >= since) if since else None
    yield (lambda one: one.time < until) if until else None
    yield (lambda one: one.outcome in query.outcomes) if query.outcomes else None
    yield _key_test(query.keys) if query.keys else None
    yield (lambda one: one.run_id in query.runs) if query.runs else None
    yield _mount_test(query.mounts) if query.mounts else None
    for globs, value in (
        (query.roles, lambda one: one.role),
        (query.apps, lambda one: one.caller.app),
        (query.nodes, lambda one: one.node),
    ):
        yield _glob_test(globs, value) if globs else None
    yield _ctx_test(query.ctx) if query.ctx else None
    yield _hash_test(query.hashes) if query.hashes else None


def _glob_test(globs: tuple[str, ...], value: Callable[[TokenRequest], str]) -> Test:
    fits = any_glob(globs)
    return lambda one: fits(value(one))


def in_namespace(mount: str, namespace: str) -> str:
    """Return a mount's path prefixed with its namespace; in the root the path alone."""
    namespace = namespace.strip("/")
    return f"{namespace}/{mount}" if namespace else mount


def full_mount(request: TokenRequest) -> str:
    """Return the mount's path prefixed with its namespace."""
    return in_namespace(request.mount, request.namespace)


def _mount_test(globs: tuple[str, ...]) -> Test:
    fits = any_glob(globs)
    return lambda one: fits(one.mount) or (bool(one.namespace) and fits(full_mount(one)))


def _key_test(keys: tuple[str, ...]) -> Test:
    known = frozenset(keys)
    return lambda one: one.key_id in known or one.opened_key_id in known


def _ctx_test(wanted: tuple[CtxWanted, ...]) -> Test:
    known = {form for one in wanted for form in one.forms}
    fits = any_glob(one.glob for one in wanted if one.glob)

    def test(request: TokenRequest) -> bool:
        if request.ctx in known or not known.isdisjoint(request.ctx_forms):
            return True
        return bool(request.ctx) and not request.ctx_hashed and fits(request.ctx)

    return test


def _hash_test(hashes: tuple[str, ...]) -> Test:
    known = frozenset(hashes)
    quoted = tuple(f'"{one}"' for one in hashes)

    def test(request: TokenRequest) -> bool:
        for forms in (request.token_hashes, request.client_tokens, request.ctx_forms):
            if not known.isdisjoint(forms):
                return True
        # A value of an object.
        return request.ctx_hashed and any(q in form for form in request.ctx_forms for q in quoted)

    return test


def scan_options(
    query: Query, plugin_names: tuple[str, ...], *, cut_offs: bool = False, changes: bool = False
) -> ScanOptions:
    """Return the options of a scan that decodes as few lines as the query allows.

    Args:
        query: selects the requests.
        plugin_names: the mount types of the engine.
        cut_offs: find cut-offs too: the later requests of the same run are recognised by them.
        changes: find all changes of credentials too.
    """
    exact = tuple(glob for glob in query.mounts if not set("*?") & set(glob))
    needles = _needles(query)
    cut_off = (DELETE_NEEDLE,) if needles and cut_offs else ()
    return ScanOptions(
        plugin_names=plugin_names,
        mounts=exact or None,
        prefilter=(*needles, *cut_off, *(CONFIG_NEEDLES if needles and changes else ())),
        notice=(HASHED_CTX,) * bool(needles and query.ctx)
        + (HASHED_KEY,) * bool(needles and query.keys),
        device_hashes=tuple(one.encode() for one in query.device_hashes),
        hash_field=HASHED_KEY if query.keys and not (query.ctx or query.hashes) else b"",
        wrapped=bool(needles and (query.hashes or query.keys)),
    )


DELETE_NEEDLE = b'"operation":"delete"'
CONFIG_NEEDLES = (b'/config"', b"/config/")
"""Texts in every request on a mount's config."""


def _needles(query: Query) -> tuple[bytes, ...]:
    """Return the search texts of the most selective field whose values all have one."""
    fields: tuple[Iterable[Iterable[str]], ...] = (
        ((one,) for one in query.hashes),
        ((one,) for one in query.keys),
        (texts for one in query.ctx for texts in one.looks),
        ((one,) for one in query.runs),
        (literals(glob) for glob in query.roles),
        (literals(glob) for glob in query.apps),
    )
    for values in fields:
        found = [_best(texts) for texts in values]
        if found and None not in found:
            return tuple(dict.fromkeys(one for one in found if one is not None))
    return ()


def _best(texts: Iterable[str]) -> bytes | None:
    """Return the longest text to search for; a matching line contains all of them."""
    found = [one for text in texts if (one := needle(text)) is not None]
    return max(found, key=len, default=None)
