"""Groups denied and refused token requests: who, what, how often, and which policy would help."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from skyflowctl.audit.changes import SIGN
from skyflowctl.audit.model import RequestOutcome, TokenRequest
from skyflowctl.audit.query import full_mount
from skyflowctl.engine.ctx import CtxPattern, InvalidCtxError
from skyflowctl.frozen import dataclass
from skyflowctl.hcl import quoted
from skyflowctl.manifest.model import Manifest

# Valid names (DESIGN): no character that a policy reads as a wildcard or a delimiter.
_ROLE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MOUNT = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_SIGN_PARAMETERS = ("data_tokens", "ttl")
"""What a request to sign has besides a ctx."""


@dataclass(frozen=True, slots=True)
class CtxWords:
    """A role's ctx rule: ``pattern`` may have ``*`` at its ends; empty allows any ctx."""

    required: bool = False
    pattern: str = ""


def missing_policy(
    mount: str, role: str, operation: str, ctx: CtxWords | None = None, *, path: str = "creds"
) -> str | None:
    """Return the policy that a login needs to request a role's tokens.

    Args:
        mount: path of the mount, in its namespace.
        role: the engine's role.
        operation: ``read`` or ``update`` (an object ctx), as logged.
        ctx: the role's rule, if known; the policy then enforces it.
        path: ``creds``, or ``sign`` for signed data tokens.

    Returns:
        HCL; None if a name is not valid for an engine. The caller chose the name, and a path
        with ``*`` or ``+`` would allow more than was asked for.
    """
    if not _ROLE.fullmatch(role) or not _MOUNT.fullmatch(mount):
        return None
    capability = "read" if operation == "read" else "update"
    lines = [f'path "{mount}/{path}/{role}" {{', f'  capabilities = ["{capability}"]']
    if ctx is not None and ctx.required:
        lines.append('  required_parameters = ["ctx"]')
    if ctx is not None and ctx.pattern:
        others = "".join(f', "{name}" = []' for name in _SIGN_PARAMETERS * (path == SIGN))
        lines.append(f'  allowed_parameters = {{ "ctx" = [{quoted(ctx.pattern)}]{others} }}')
    return "\n".join([*lines, "}"])


GROUPS_MAX = 10_000
"""The most groups of refusals. There is a limit because callers choose the names in them."""
_REQUEST_ID = re.compile(r"\s?\(request id [^()]*\)")
_ERROR_MAX = 200

CUT_OFF_PROBE = "expected: config revoke asked for a token to prove the cut-off"
NO_POLICY = "no policy of its token allows it"
NO_POLICY_OR_CTX = "no policy of its token allows it, or none with this ctx, which is hashed"
UNDECLARED_ROLE = "no such role is declared: the manifest has the mount without it"
UNKNOWN_TOKEN = "the server does not know the token: expired, revoked or mistyped"  # noqa: S105 - words
_BY_PARAMETERS = "the ctx does not fit the role: a policy that names the ctx refuses it too"


@dataclass(slots=True)
class RefusedGroup:
    """Requests that were denied or refused for the same reason.

    Args:
        request: the first request.
        reason: why it was turned down, as far as the log and the manifest show.
        policy: HCL that would allow it; None if no policy would.
        count: the number of requests; ``first`` and ``last`` are the times of the first and last.
        probe_of: the run of ``config revoke`` that sent them to verify its cut-off; else empty.
    """

    request: TokenRequest
    reason: str
    policy: str | None
    count: int
    first: datetime
    last: datetime
    probe_of: str = ""


Rules = Mapping[tuple[str, str], CtxWords]


@dataclass(frozen=True, slots=True)
class DeclaredRoles:
    """The manifest's mounts, and the ctx rules of its roles by mount path and role."""

    rules: Rules
    mounts: frozenset[str]


def known_from(manifest: Manifest | None) -> DeclaredRoles:
    """Return the roles of a manifest; no roles without a manifest."""
    mounts = manifest.mounts if manifest else ()
    rules = {
        (mount.path, role.name): CtxWords(role.ctx.required, role.ctx.pattern)
        for mount in mounts
        for role in mount.roles
    }
    return DeclaredRoles(rules, frozenset(mount.path for mount in mounts))


class Refusals:
    """Groups the requests that were turned down.

    Args:
        known: the manifest's roles, for reasons that the log only has as hashes and for policies.
        cut_offs: when which run cut which mount off; filled before later requests are added.
    """

    def __init__(
        self, known: DeclaredRoles, cut_offs: Mapping[tuple[str, str], datetime] | None = None
    ) -> None:
        self._known = known
        self._cut_offs = cut_offs if cut_offs is not None else {}
        self._groups: dict[tuple[object, ...], RefusedGroup] = {}
        self.left_out = 0
        """Requests of groups beyond ``GROUPS_MAX``."""

    def add_all(self, requests: Iterable[TokenRequest]) -> None:
        """Add requests; those that got a token are ignored."""
        for one in requests:
            if one.outcome in (RequestOutcome.DENIED, RequestOutcome.REFUSED):
                self._add(one)

    def found(self) -> list[RefusedGroup]:
        """Return the groups: denied ones first, the most frequent of them first; probes last."""
        return sorted(
            self._groups.values(),
            key=lambda one: (
                bool(one.probe_of),
                one.request.outcome is not RequestOutcome.DENIED,
                -one.count,
                one.first,
            ),
        )

    def _add(self, request: TokenRequest) -> None:
        probe_of = self._probe_of(request)
        reason = CUT_OFF_PROBE if probe_of else self._reason(request)
        caller, mount = request.caller, full_mount(request)
        key = (
            *(caller.app, caller.auth, mount, request.role, request.path, request.operation),
            *(reason, probe_of),
        )
        group = self._groups.get(key)
        if group is not None:
            group.count += 1
            group.first = min(group.first, request.time)
            group.last = max(group.last, request.time)
        elif len(self._groups) >= GROUPS_MAX:
            self.left_out += 1
        else:
            policy = self._policy(request, reason)
            time = request.time
            self._groups[key] = RefusedGroup(request, reason, policy, 1, time, time, probe_of)

    def _probe_of(self, request: TokenRequest) -> str:
        """Return the run that cut this mount off, if this request verified that; else empty."""
        refused = request.outcome is RequestOutcome.REFUSED
        since = self._cut_offs.get((request.mount, request.run_id))
        return request.run_id if refused and since and request.time >= since else ""

    def _rule(self, request: TokenRequest) -> CtxWords | None:
        return self._known.rules.get((request.mount, request.role))

    def _may_break(self, request: TokenRequest) -> bool:
        """Whether a policy may restrict the ctx, but this ctx cannot be compared with it."""
        rule = self._rule(request)
        return request.ctx_hashed and rule is not None and bool(rule.pattern)

    def _policy(self, request: TokenRequest, reason: str) -> str | None:
        if reason not in (NO_POLICY, NO_POLICY_OR_CTX):
            return None
        rule = self._rule(request)
        return missing_policy(
            request.mount, request.role, request.operation, rule, path=request.path
        )

    def _reason(self, request: TokenRequest) -> str:
        broken = _broken_rule(self._rule(request), request)
        if request.outcome is RequestOutcome.DENIED:
            if not request.caller.app and not request.caller.policies:
                return UNKNOWN_TOKEN
            if broken:
                return _BY_PARAMETERS
            if self._is_undeclared(request):
                return UNDECLARED_ROLE
            return NO_POLICY_OR_CTX if self._may_break(request) else NO_POLICY
        if request.error:
            return _plain(request.error)
        unknown = self._is_undeclared(request)
        return broken or ("the manifest has no such role" if unknown else _HASHED)

    def _is_undeclared(self, request: TokenRequest) -> bool:
        """Whether the manifest has the mount but not the role; a policy would then not help."""
        return request.mount in self._known.mounts and self._rule(request) is None


_HASHED = "the engine's own words, which the log has only as a hash"


def _broken_rule(rule: CtxWords | None, request: TokenRequest) -> str:
    """Return how a request breaks the ctx rule of its role; empty if that cannot be seen."""
    if rule is None:
        return ""
    if not request.ctx:
        return "the role requires a ctx, and there is none" if rule.required else ""
    if not rule.pattern or request.ctx_hashed:
        return ""
    try:
        fits = CtxPattern.parse(rule.pattern).matches(request.ctx)
    except InvalidCtxError:
        return ""
    return "" if fits else "the ctx is not of the form that the role wants"


def _plain(error: str) -> str:
    """Return an error without the parts that differ between requests."""
    lines = [line.strip().removeprefix("* ") for line in error.splitlines()]
    text = "; ".join(line for line in lines if line and not line.endswith(" occurred:"))
    return _REQUEST_ID.sub("", text)[:_ERROR_MAX]
