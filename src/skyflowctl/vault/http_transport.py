"""A real server, over HTTP: retries, consistent reads, redirects only to named hosts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from skyflowctl.errors import Problem
from skyflowctl.retry import retry
from skyflowctl.telemetry.spans import SpanKind, child_span
from skyflowctl.vault.answer_reader import AnswerReader, as_answer, origin
from skyflowctl.vault.call import (
    CallDone,
    CallForwarded,
    CallLost,
    CallOutcome,
    CallPending,
    CallRefused,
    OutgoingRequest,
    Try,
    call_outcome,
)
from skyflowctl.vault.connection import NoResponseError, NotSentError, TargetPool, request_marks
from skyflowctl.vault.consistency import INDEX_HEADER, ConsistencyIndex
from skyflowctl.vault.errors import BusyError, VaultError
from skyflowctl.vault.foreign_answers import ServerAnswer, is_the_servers_redirect, not_a_server
from skyflowctl.vault.guards import Guards
from skyflowctl.vault.namespaces import NAMESPACE_HEADER, namespace_of
from skyflowctl.vault.no_response import no_connection, no_response_error, unnamed_host
from skyflowctl.vault.retry_rules import Disposition, Outage, RetryBudget
from skyflowctl.vault.target import Target, check_address
from skyflowctl.vault.transport import (
    Reply,
    Request,
    ServerInfo,
    encode_body,
    holds_secret,
    record_request,
    trace_headers,
)
from skyflowctl.vault.waits import WaitMonitor, seconds_left
from skyflowctl.vault.wrapping import given_up, is_delivered

if TYPE_CHECKING:
    from skyflowctl.secret import Secret

_HEALTH_SECONDS = 4.0
_MAX_HOPS = 3
_WRAPPING = "sys/wrapping/"  # accepts wrapping tokens, which the server itself issued


class HttpTransport:
    """A transport to one cluster with the token of its target. Safe for threads.

    It sends one additional request: ``sys/health``, without a token, before the first fresh
    one, to learn the cluster's id.

    Args:
        target: the server and the login.
        run_id: this command's id, sent with every request and found in the audit log.
        application_source: the caller's name for itself in the audit log.
        timeout: the seconds that one request may take with all its retries.
        local: ask only this node, without forwarding to the leader for fresher answers.
        waits: reports the reason for a wait; None: no report.
        monotonic: the clock, replaceable in tests.
        sleep: waits, replaceable in tests.
    """

    def __init__(
        self,
        target: Target,
        *,
        run_id: str,
        application_source: str = "skyflowctl",
        timeout: float = 30.0,
        local: bool = False,
        waits: WaitMonitor | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._target = target
        self._run_id = run_id
        self._source = application_source
        self._timeout = timeout
        self._local = local
        self._waits = waits
        self._monotonic = monotonic
        self._sleep = sleep
        self._addresses = (target.address, *target.nodes)
        within = f", namespace {target.namespace}" if target.namespace else ""
        self._server = ServerInfo(
            target.address + within, self._addresses, target.namespace, not target.skip_verify
        )
        self._guards = Guards(self)
        self._current = 0
        self._reached = False
        self._index = ConsistencyIndex()
        self._outage = Outage()
        self._reader = AnswerReader(target, local=local, ask_health=self._ask_health)
        self._lock = threading.Lock()
        self._learning = threading.Lock()
        self._asked_for_cluster = False
        self._made = 0
        self._pool = TargetPool(target, request_marks(run_id, application_source))

    @property
    def requests_made(self) -> int:
        """The number of calls of :meth:`send`; a resend is not counted again."""
        return self._made

    @property
    def cluster_id(self) -> str:
        """The cluster's id from replies; empty before the first reply with an id."""
        return self._index.cluster

    @property
    def newest_index(self) -> str:
        """The newest raft index of any reply, as a header's value; empty if no reply had one."""
        return self._index.newest

    @property
    def server(self) -> ServerInfo:
        """The server of the target."""
        return self._server

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def at_node(self, address: str) -> HttpTransport:
        """Return a transport that asks only one node of the cluster.

        A node that cannot be reached, or lags behind, fails at once, without a wait.

        Raises:
            RedirectRefusedError: the user did not name this address, so it gets no token.
            UsageError: the text is no address.
        """
        address = check_address(address)
        if address not in self._addresses:
            raise unnamed_host("GET", "", address, "it is listed by the cluster, not by you")
        return self._made_for(replace(self._target, address=address, nodes=()), local=True)

    def _made_for(self, target: Target, *, local: bool = False) -> HttpTransport:
        return HttpTransport(
            target,
            run_id=self._run_id,
            application_source=self._source,
            timeout=self._timeout,
            local=local,
            waits=self._waits,
        )

    def send(self, request: Request) -> Reply:
        """Send one request and return its good answer; see :class:`Transport`.

        It is one span with all its retries. The server's request id joins it with the audit log.
        """
        with self._lock:
            self._made += 1
        with child_span(request.method, SpanKind.CLIENT) as span:
            try:
                reply = self._send_one(request)
            except VaultError as error:
                record_request(span, request, error.status, error.request_id)
                raise
            record_request(span, request, reply.status, reply.request_id)
            return reply

    def _send_one(self, request: Request) -> Reply:
        path, body = request.path, request.body
        call = OutgoingRequest(
            method=request.method,
            path=path,
            params=request.params,
            content=None if body is None else encode_body(body),
            headers=self._request_headers(request),
            idempotent=request.idempotent or request.reads,
            fresh=request.fresh and not self._local,
            wraps=bool(request.wrap_ttl),
            secret=holds_secret(body) and not path.startswith(_WRAPPING),
        )
        if call.secret:
            self.refuse_guarded(request.method, path, body or ())
        return self._do(call)

    def refuse_guarded(self, method: str, path: str, names: Collection[str] = ()) -> Problem | None:
        """Refuse to send a secret to a path that a control group guards; see :class:`Transport`."""
        return self._guards.refuse(method, path, names)

    def stop_waiting_when(self, stopping: Callable[[], bool]) -> None:
        """Do nothing: this transport waits for no approval."""

    def withdraw_unwanted(self, is_wanted: Callable[[str], bool]) -> None:
        """Do nothing: this transport stores no requests."""

    def _do(self, call: OutgoingRequest) -> Reply:
        """Send one request and return its good answer."""
        if call.fresh and not (self._index.cluster or self._asked_for_cluster):
            self._learn_cluster()
        what = f"{call.method} v1/{call.path} at {self._addresses[self._current]}"
        with self._waits.watching(what) if self._waits else nullcontext():
            outcome = self._send_with_retries(call)
        if isinstance(outcome, CallDone) and call.wraps:
            outcome = self._wrapped(outcome, call.path)
        match outcome:
            case CallDone(reply):
                return reply
            case CallPending():
                return self._parked(call, outcome)
            case CallRefused() | CallForwarded() | CallLost():
                raise outcome.error
            case _:
                assert_never(outcome)

    def _parked(self, call: OutgoingRequest, outcome: CallPending) -> Reply:
        """Withdraw a request that needs approval, because this transport never waits for one.

        Raises:
            VaultError: always.
        """
        raise given_up(self, call, outcome)

    def _wrapped(self, done: CallDone, path: str) -> CallDone | CallPending:
        """Distinguish a wrapped answer that was requested from a parked request."""
        info = done.reply.wrap_info
        if info is None or is_delivered(self, info.token, path):
            return done
        return CallPending(done.reply, info)

    def _request_headers(self, request: Request) -> dict[str, str]:
        headers = trace_headers()
        if within := namespace_of(request.path, self._target.namespace):
            headers[NAMESPACE_HEADER] = within
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        headers |= request.headers or {}
        if request.wrap_ttl:
            headers["X-Vault-Wrap-TTL"] = request.wrap_ttl
        return headers

    def as_login(self, token: Secret | None, certificate: Secret | None = None) -> HttpTransport:
        """Return a transport to the same server with another token or client certificate."""
        target = replace(self._target, token=token, login=None)
        if certificate:
            target = replace(target, client_cert="", client_key="", client_pem=certificate)
        made = self._made_for(target)
        made._reader.server_was_seen = self._reader.server_was_seen  # noqa: SLF001 - its own
        return made

    def _send_with_retries(self, call: OutgoingRequest) -> CallOutcome:
        """Send until there is a reliable answer, or the time or the retries are used up."""
        retries = self._target.max_retries
        budget = self._outage.budget(self._monotonic(), seconds_left(self._timeout), retries)
        lost = False

        def send() -> tuple[Try, CallOutcome]:
            nonlocal lost
            budget.tries += 1
            done = self._try(call, budget)
            busy = done.limited or isinstance(done.error, BusyError)
            self._outage.observe(done.verdict, self._monotonic(), limited=busy)
            outcome = call_outcome(call, done)
            if isinstance(outcome, CallPending):
                outcome = replace(outcome, resent=lost)
            lost = lost or isinstance(outcome, CallLost)
            return done, outcome

        def final(sent: tuple[Try, CallOutcome]) -> bool:
            return isinstance(sent[1], CallPending | CallDone)

        def wait(sent: tuple[Try, CallOutcome], _tries: int) -> bool:
            done, _ = sent
            if done.verdict is Disposition.FINAL or not self._again(call, done, budget):
                return False
            pause = 0.0 if done.immediate else budget.pause(done.asked_pause)
            if not budget.allows(self._monotonic(), pause):
                return False
            self._sleep(pause)
            return True

        return retry(send, final, wait)[1]

    def _again(self, call: OutgoingRequest, done: Try, budget: RetryBudget) -> bool:
        """Whether the request may be retried after this outcome."""
        if done.verdict in {Disposition.UNKNOWN, Disposition.REDIRECT} and not call.idempotent:
            return False
        if done.verdict is Disposition.REDIRECT:
            within = budget.redirect_allowed(self._monotonic())
            return within and budget.tries_left(limited=False)
        return done.immediate or budget.tries_left(limited=done.limited)

    def _try(self, call: OutgoingRequest, budget: RetryBudget) -> Try:
        """Send once, following redirects to named hosts."""
        number = self._current
        address = self._addresses[number]
        for _ in range(_MAX_HOPS):
            try:
                done, location = self._send(address, call, budget)
            except NotSentError as gone:
                return self._not_sent(call, number, address, gone)
            except NoResponseError as lost:
                self._next_address(number)
                return self._reader.lost(call, address, lost)
            if location is None:
                return self._after_answer(done, number)
            if location not in self._addresses:
                return Try(Disposition.REDIRECT, unnamed_host(call.method, call.path, location))
            address = location
        loop = no_response_error(call.method, call.path, address, "it is a redirect loop")
        return Try(Disposition.UNKNOWN, loop)

    def _send(
        self, address: str, call: OutgoingRequest, budget: RetryBudget
    ) -> tuple[Try, str | None]:
        """Send to one address; return the outcome, and the origin that a redirect names."""
        if self._target.rate_limit is not None:
            self._target.rate_limit.wait(budget.deadline - self._monotonic())
        raw = self._pool.send(
            address,
            call.method,
            call.path,
            headers={**call.headers, **self._consistency(call)},
            params=call.params,
            content=call.content,
            seconds=max(0.1, budget.deadline - self._monotonic()),
        )
        self._reached = True
        answer = as_answer(call.method, call.path, raw)
        self._index.observe(answer.headers.get(INDEX_HEADER.lower()))
        if not 300 <= answer.status < 400:
            return self._reader.read(call, answer, address), None
        if not is_the_servers_redirect(answer):
            return Try(Disposition.FINAL, not_a_server(answer, address)), None
        return Try(Disposition.REDIRECT), origin(answer.headers.get("location", ""), address)

    def _consistency(self, call: OutgoingRequest) -> dict[str, str]:
        return {} if self._local else self._index.headers(fresh=call.fresh)

    def _after_answer(self, done: Try, number: int) -> Try:
        """Switch to another node, if there is one, after a node that is sealed or has no leader."""
        if done.verdict is not Disposition.NOT_APPLIED or isinstance(done.error, BusyError):
            return done
        self._next_address(number)
        sealed = done.error is not None and done.error.status == 503 and done.error.says("sealed")
        if sealed and len(self._addresses) == 1:
            return replace(done, verdict=Disposition.FINAL)
        return replace(done, limited=sealed or done.limited)

    def _not_sent(
        self, call: OutgoingRequest, number: int, address: str, gone: NotSentError
    ) -> Try:
        """Handle a failed connection: try the next address, each once before the first success."""
        error = no_connection(call.method, call.path, address, gone)
        self._next_address(number)
        last = number + 1 >= len(self._addresses)
        if gone.lasting or (last and (self._local or not self._reached)):
            return Try(Disposition.FINAL, error)
        return Try(Disposition.NOT_APPLIED, error, immediate=not last)

    def _next_address(self, number: int) -> None:
        """Switch to the address after this one, unless another thread already has."""
        with self._lock:
            if self._current == number:
                self._current = (number + 1) % len(self._addresses)

    def _learn_cluster(self) -> None:
        """Ask the node for its cluster's id; without an answer, reads continue as usual.

        Raises:
            NotAServerError: the peer is no OpenBao or Vault server.
        """
        with self._learning:
            if self._index.cluster or self._asked_for_cluster:
                return
            answer = self._reader.ask_who(self._addresses[self._current], self._sleep)
            if answer is not None:
                self._asked_for_cluster = True
                self._index.learn_cluster(str((answer.body or {}).get("cluster_id") or ""))

    def _ask_health(self, address: str) -> ServerAnswer | None:
        """Ask an address for its health, without the token; None without an answer."""
        try:
            raw = self._pool.send(
                address,
                "GET",
                "sys/health",
                headers=trace_headers(),
                params={"standbyok": "true"},
                seconds=max(0.1, seconds_left(min(_HEALTH_SECONDS, self._timeout))),
                with_token=False,
            )
        except (NotSentError, NoResponseError):
            return None
        return as_answer("GET", "sys/health", raw)
