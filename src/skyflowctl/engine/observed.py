"""What the engine tells a collector: a trace of each request, and numbers by mount and role.

Values of a request are never recorded: no ctx, no field, no token. A role's name is recorded only
if the mount has that role, and an application's name only within limits, because any caller may
send any text.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

from skyflowctl.clock import Clock
from skyflowctl.engine.contract import (
    EngineError,
    EngineReply,
    EngineRequest,
    Operation,
    StorageError,
)
from skyflowctl.engine.exchanges import MintFailedError
from skyflowctl.engine.mint_limiter import MintLimiter
from skyflowctl.engine.store import MountStore
from skyflowctl.skyflow.minting import MintedToken
from skyflowctl.telemetry.spans import SpanKind, TraceSpan, child_span
from skyflowctl.telemetry.start import Metric, Telemetry

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0, 2.5, 5.0, 10.0)
TOKEN_REQUESTS = Metric(
    "skyflow.token.requests", "{request}", "Requests for a token, by role and claimed application."
)
TOKEN_DURATION = Metric(
    "skyflow.token.duration", "s", "How long the engine took to answer one.", _SECONDS
)
TOKEN_ERRORS = Metric("skyflow.token.errors", "{request}", "Those without a token, by reason.")
TOKEN_REUSED = Metric(
    "skyflow.token.reused", "{request}", "Those answered with a token that was minted before."
)
SIGN_REQUESTS = Metric(
    "skyflow.sign.requests", "{request}", "Requests for signed data tokens, by role."
)
EXCHANGE_DURATION = Metric(
    "skyflow.exchange.duration",
    "s",
    "How long the token service took; its count is the number of exchanges.",
    _SECONDS,
)
QUEUE_LENGTH = Metric("skyflow.queue.length", "{request}", "Requests that wait for an exchange.")
QUEUE_WAIT = Metric(
    "skyflow.queue.wait", "s", "How long requests waited, of those that had to.", _SECONDS
)
CONFIG_WRITES = Metric(
    "skyflow.config.writes", "{request}", "Writes to config and its history, by operation."
)
ROLE_WRITES = Metric("skyflow.role.writes", "{request}", "Writes and deletes of roles.")
HEALTH_CHECKS = Metric("skyflow.health.checks", "{request}", "Reads of health, by state.")
CREDENTIAL_AGE = Metric("skyflow.credential.age", "s", "Since the live credential was written.")
CREDENTIAL_EXPIRY = Metric(
    "skyflow.credential.expiry", "s", "Until the live key ends; absent if it does not end."
)
ENGINE_METRICS = (
    TOKEN_REQUESTS,
    TOKEN_DURATION,
    TOKEN_ERRORS,
    TOKEN_REUSED,
    SIGN_REQUESTS,
    EXCHANGE_DURATION,
    QUEUE_LENGTH,
    QUEUE_WAIT,
    CONFIG_WRITES,
    ROLE_WRITES,
    HEALTH_CHECKS,
    CREDENTIAL_AGE,
    CREDENTIAL_EXPIRY,
)
_MOUNT, _ROLE, _APPLICATION = "skyflow.mount", "skyflow.role", "skyflow.application"
_OPERATION, _STATE, _ERROR = "skyflow.operation", "skyflow.state", "error.type"
_OTHER = "other"
_FORWARDED = "forwarded"
"""The outcome of a write on a standby, which the server sends to the leader."""

_REASONS = {
    400: "invalid_request",
    404: "unsupported_path",
    405: "unsupported_operation",
    409: "conflict",
    500: "internal",
}
_WITH_ROLE = frozenset({"creds", "roles", "sign"})
_FIXED = frozenset(
    {"config", "config/verify", "config/commit", "config/rollback", "config/history", "health"}
)
_WRITES = frozenset({Operation.CREATE, Operation.UPDATE, Operation.DELETE})
_NAME_LENGTH, _NAMES = 64, 200
_FLUSH_SECONDS = 0.25


class Applications:
    """Limits the names that applications claim: 64 characters, 200 names, then ``other``."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def name(self, request: EngineRequest) -> str:
        """Return the application's name, as its request claims it; empty: it claims none."""
        given = request.headers.get("application-source", ())
        name = given[0][:_NAME_LENGTH] if given else ""
        if not name or name in self._known:
            return name
        if len(self._known) >= _NAMES or not name.isprintable():
            return _OTHER
        self._known.add(name)
        return name


class EngineTelemetry:
    """The metrics of all mounts of this process."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.sink = telemetry
        self.applications = Applications()
        self.mounts: dict[MountTelemetry, None] = {}
        self.token_requests = telemetry.counter(TOKEN_REQUESTS)
        self.token_errors = telemetry.counter(TOKEN_ERRORS)
        self.token_reused = telemetry.counter(TOKEN_REUSED)
        self.sign_requests = telemetry.counter(SIGN_REQUESTS)
        self.config_writes = telemetry.counter(CONFIG_WRITES)
        self.role_writes = telemetry.counter(ROLE_WRITES)
        self.health_checks = telemetry.counter(HEALTH_CHECKS)
        self.token_duration = telemetry.histogram(TOKEN_DURATION)
        self.exchange_duration = telemetry.histogram(EXCHANGE_DURATION)
        self.queue_wait = telemetry.histogram(QUEUE_WAIT)
        for metric in (QUEUE_LENGTH, CREDENTIAL_AGE, CREDENTIAL_EXPIRY):
            telemetry.gauge(metric, partial(self._values, metric.name))

    def mount(self, store: MountStore, limiter: MintLimiter, clock: Clock) -> "MountTelemetry":
        """Return what measures one more mount."""
        return MountTelemetry(self, store, limiter, clock)

    def _values(self, metric: str) -> list[tuple[float, dict[str, str]]]:
        # In the SDK's thread: a copy, because mounts come and go meanwhile.
        found = [(mount.gauges().get(metric), mount.path) for mount in list(self.mounts)]
        return [(value, {_MOUNT: path}) for value, path in found if path and value is not None]


class MountTelemetry:
    """Measures one mount.

    Args:
        shared: the process's own.
        store: tells which roles there are, and the live credential.
        limiter: tells how many requests wait.
        clock: the source of time.
    """

    def __init__(
        self, shared: EngineTelemetry, store: MountStore, limiter: MintLimiter, clock: Clock
    ) -> None:
        self.path = ""  # the server names it with every request only
        self._shared = shared
        self._store = store
        self._limiter = limiter
        self._clock = clock
        shared.mounts[self] = None

    async def observe(
        self, request: EngineRequest, answer: Callable[[EngineRequest], Awaitable[EngineReply]]
    ) -> EngineReply:
        """Answer a request and record it; errors are those of ``answer``."""
        self.path = self.path or request.mount_point.strip("/")
        name, role = _operation(request.path)
        parent = request.headers.get("traceparent")
        started, reason, reply = time.perf_counter(), "", None
        title = f"{name} {request.operation.value}"
        with self._shared.sink.tracer.span(
            title, SpanKind.SERVER, parent[0] if parent else None
        ) as span:
            known = self._store.knows_role(role)
            try:
                reply = await answer(request)
            except EngineError as error:
                reason = error.reason or _REASONS.get(error.status, "unavailable")
                raise
            except StorageError as error:
                reason = _FORWARDED if "readonly storage" in str(error) else "storage"
                raise
            except asyncio.CancelledError:
                reason = "cancelled"
                raise
            finally:
                done = _Observed(request, name, role, reason, reply, known=known)
                self._record(span, done, time.perf_counter() - started)
        return reply

    def _record(self, span: TraceSpan, done: "_Observed", seconds: float) -> None:
        known = done.has_role or self._store.knows_role(done.role)
        of_role = (
            {_MOUNT: self.path, _ROLE: done.role} if known and done.role else {_MOUNT: self.path}
        )
        application = self._shared.applications.name(done.request)
        of_caller = of_role | {_APPLICATION: application} if application else of_role
        if span.context.sampled:
            span.attributes |= of_caller
            if done.request.request_id:
                span.set("skyflow.request_id", done.request.request_id)
            span.fail("" if done.reason == _FORWARDED else done.reason)
            if done.reason == _FORWARDED:
                span.set("skyflow.outcome", _FORWARDED)
        if done.reason != _FORWARDED:
            self._count(done, of_role, of_caller, seconds)

    def _count(
        self, done: "_Observed", of_role: dict[str, str], of_caller: dict[str, str], seconds: float
    ) -> None:
        shared, failed = self._shared, {_ERROR: done.reason} if done.reason else {}
        writes = done.request.operation in _WRITES
        if done.name == "creds":
            shared.token_requests(1, of_caller)
            shared.token_duration(seconds, of_role)
            if failed:
                shared.token_errors(1, of_caller | failed)
            elif done.field("reused"):
                shared.token_reused(1, of_caller)
        elif done.name == "sign":
            shared.sign_requests(1, of_caller | failed)
        elif done.name == "health":
            state = str(done.field("configuration_status") or done.reason)
            shared.health_checks(1, {_MOUNT: self.path, _STATE: state})
        elif done.name == "roles" and writes:
            operation = "delete" if done.request.operation is Operation.DELETE else "write"
            shared.role_writes(1, of_role | failed | {_OPERATION: operation})
        elif done.name.startswith("config") and done.name != "config/verify" and writes:
            operation = done.request.operation.value if done.name == "config" else done.name
            shared.config_writes(1, {_MOUNT: self.path, _OPERATION: operation} | failed)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Measure the wait of a request that finds no place free."""
        started = time.perf_counter()
        try:
            with child_span("queue"):
                yield
        finally:
            self._shared.queue_wait(time.perf_counter() - started, {_MOUNT: self.path})

    async def exchange(self, mint: Callable[[], Awaitable[MintedToken]]) -> MintedToken:
        """Make an exchange with the token service, and record it; errors are those of ``mint``."""
        started, reason = time.perf_counter(), "cancelled"
        with child_span("token service exchange", SpanKind.CLIENT) as span:
            try:
                token = await mint()
                reason = ""
            except MintFailedError as error:
                reason = error.failure.reason()
                raise
            finally:
                span.fail(reason)
                attributes = {_MOUNT: self.path, _ERROR: reason} if reason else {_MOUNT: self.path}
                self._shared.exchange_duration(time.perf_counter() - started, attributes)
            span.set("skyflow.token_service.request_id", token.request_id)
            return token

    def gauges(self) -> dict[str, float]:
        """Return the present values by metric, without asking the storage."""
        values: dict[str, float] = {QUEUE_LENGTH.name: self._limiter.waiting}
        config = self._store.known_config
        if config and config.credential:
            now = self._clock.now()
            updated = config.record.credential_updated
            ends = config.credential.account.key_valid_before
            if updated:
                values[CREDENTIAL_AGE.name] = (now - updated).total_seconds()
            if ends:
                values[CREDENTIAL_EXPIRY.name] = (ends - now).total_seconds()
        return values

    async def aclose(self) -> None:
        """Send what the process still has, if this was its last mount; briefly."""
        last = self._shared.mounts.pop(self, self) is None and not self._shared.mounts
        if last:
            await asyncio.to_thread(self._shared.sink.flush, _FLUSH_SECONDS)


class _Observed:
    """A request that was answered; ``reason`` is empty if it succeeded, and ``known`` tells
    whether the mount had this role before."""

    def __init__(
        self,
        request: EngineRequest,
        name: str,
        role: str,
        reason: str,
        reply: EngineReply | None,
        *,
        known: bool,
    ) -> None:
        self.request = request
        self.name = name
        self.role = role
        self.reason = reason
        self._data = reply.data if reply and reply.data else {}
        # An answer with data shows that the role exists.
        self.has_role = known or bool(self._data)

    def field(self, name: str) -> object:
        """Return a field of the answer; None: it has none."""
        return self._data.get(name)


def _operation(path: str) -> tuple[str, str]:
    """Return the path's kind and the role in it; both of few values, or not to be recorded yet."""
    if path in _FIXED:
        return path, ""
    head, _, rest = path.partition("/")
    if head in _WITH_ROLE:
        return head, rest
    if path.startswith("config/history/"):
        return "config/history", ""
    return _OTHER, ""
