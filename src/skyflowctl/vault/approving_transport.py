"""A transport that waits for approvals, or stores a parked request for the next run.

Measured on OpenBao 2.7.2: only unwrapping its own token runs a parked request, and each
unwrap runs it again. So an approved request is unwrapped once, after a lost reply the object is
read back, and then the token is revoked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from skyflowctl.clock import parse_rfc3339, rfc3339
from skyflowctl.errors import SkyflowctlError
from skyflowctl.retry import Backoff, retry
from skyflowctl.vault import approvals, parked
from skyflowctl.vault.approval_policy import ApprovalPolicy
from skyflowctl.vault.approvals import RequestState
from skyflowctl.vault.call import CallPending, OutgoingRequest
from skyflowctl.vault.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    OutcomeUnknownError,
    ServerUnreachableError,
    VaultError,
)
from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.login_api import OwnLogin
from skyflowctl.vault.namespaces import namespace_of
from skyflowctl.vault.pending_store import CachedStore, PendingStore, StoredRequest
from skyflowctl.vault.system_api import SystemApi
from skyflowctl.vault.target import Target
from skyflowctl.vault.transport import Reply, Request, WrapInfo
from skyflowctl.vault.waits import WaitMonitor
from skyflowctl.vault.wrapping import UNWRAP, is_delivered, namespace_header, withdraw

# The text of a 400 that means that an object does not exist.
_NOTHING_THERE = ("No secret engine mount", "mount not configured", "Could not find header")
_POLL = Backoff(first=0.5, longest=5.0, factor=1.5)


class ApprovingTransport(HttpTransport):
    """The transport of commands that may wait for an approval. Safe for threads.

    Args:
        target: the server and the login.
        run_id: this command's id.
        policy: what to do with parked requests.
        timeout: the seconds that one request may take with all its retries.
        now: the time, replaceable in tests.
        sleep: waits, replaceable in tests.
    """

    def __init__(
        self,
        target: Target,
        *,
        run_id: str,
        policy: ApprovalPolicy,
        timeout: float = 30.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(target, run_id=run_id, timeout=timeout, waits=WaitMonitor(policy.tell))
        self._policy = policy
        self._run_id = run_id
        self._now = now
        self._pause = sleep
        self._store_lock = threading.Lock()
        self._store: PendingStore | None = None
        self._login: OwnLogin | None = None

    def stop_waiting_when(self, stopping: Callable[[], bool]) -> None:
        """End every wait for an approval as soon as this function returns True."""
        self._policy = replace(self._policy, stopping=stopping)

    def _do(self, call: OutgoingRequest) -> Reply:
        """Resume a stored request with the same digest, or send a new one."""
        if not approvals.may_wait(call):
            return super()._do(call)
        found = self._stored(call)
        if found is not None:
            reply = self._resume(call, found)
            if reply is not None:
                return reply
        reply = super()._do(call)
        if self._policy.required and not reply.sent_by_run and approvals.writes(call):
            raise parked.ran_unapproved(call.method, call.path, reply)
        return reply

    def _stored(self, call: OutgoingRequest) -> StoredRequest | None:
        """Return the stored request with the same digest; withdraw others of earlier runs.

        Reads of creds with different ctx, and several moves, may be stored at the same time.
        """
        same = None
        for one in self._pending_store().load():
            if not self._is_about(one, call):
                continue
            if one.digest == approvals.digest_of(call):
                same = one
            elif one.run != self._run_id and not approvals.has_siblings(call):
                done = self._drop(one)
                self._policy.tell(f"{done}: an older request to {call.path} (run {one.run})")
        return same

    def _is_about(self, one: StoredRequest, call: OutgoingRequest) -> bool:
        return self._is_here(one) and (one.method, one.path) == (call.method, call.path)

    def _is_here(self, one: StoredRequest) -> bool:
        here = namespace_of(one.path, self.server.namespace)
        return (one.cluster, one.namespace) == (self._cluster(), here)

    def _resume(self, call: OutgoingRequest, stored: StoredRequest) -> Reply | None:
        """Run a stored request if it is approved; None if it is gone, so that a new one is sent.

        Raises:
            PendingError: the request still waits.
            GuardedError: its object has changed, or it ended while this command waited.
        """
        state = self._state(stored)
        if state is RequestState.GONE:
            self._drop(stored)
            self._policy.tell(f"the request of run {stored.run} to {call.path} is gone")
            return None
        if state is RequestState.WAITING and self._policy.wait:
            state = self._wait_for(stored)
        if state is RequestState.APPROVED:
            return self._execute(call, stored)
        if state is RequestState.GONE:
            self._drop(stored)
            raise parked.gone_meanwhile(stored)
        raise parked.pending(stored, self._pending_store().kind)

    def _execute(self, call: OutgoingRequest, stored: StoredRequest) -> Reply | None:
        """Unwrap an approved request once; None if its login has ended and a new one is sent."""
        if self._has_changed(stored):
            self._drop(stored)
            raise parked.object_changed(stored)
        try:
            reply = self._unwrap(call, stored)
        except OutcomeUnknownError as lost:
            reply = self._read_back(call, stored, lost)
        except ForbiddenError:
            self._drop(stored)
            self._policy.tell(f"the login that sent the request of run {stored.run} has ended")
            return None
        except (BadRequestError, ConflictError, NotFoundError):
            self._drop(stored)  # the engine refused it, and would refuse it again
            raise
        self._drop(stored)
        self._policy.tell(f"{call.path}: run {self._run_id} ran the request of run {stored.run}")
        return replace(reply, sent_by_run=stored.run)

    def _unwrap(self, call: OutgoingRequest, stored: StoredRequest) -> Reply:
        """Unwrap an approved request; reads of creds may be retried, a write is not."""
        login, creds = self.as_login(stored.token), approvals.is_creds(call)
        headers = self._request_headers(Request("POST", stored.path))
        try:
            return login._do(OutgoingRequest("POST", UNWRAP, None, None, headers, creds, True))  # noqa: SLF001
        finally:
            login.close()

    def _read_back(self, call: OutgoingRequest, stored: StoredRequest, lost: VaultError) -> Reply:
        """Read the object to find out whether an unwrap whose reply was lost has run.

        Raises:
            VaultError: that is unknown, or it did not run; the request stays stored.
        """
        data = self._look(stored.path, stored.version)
        if not stored.before or approvals.body_digest(data) == stored.before:
            raise lost
        ran = approvals.shows(data, call)
        if ran:
            return Reply(200, data=data)
        self._drop(stored)
        raise lost if ran is None else parked.object_changed(stored)

    def _has_changed(self, stored: StoredRequest) -> bool:
        """Whether the object of a request has changed since the request was parked."""
        if not stored.before:
            return False
        return approvals.body_digest(self._look(stored.path, stored.version)) != stored.before

    def _look(self, path: str, version: str) -> Mapping[str, Any] | None:
        """Return the current object that a write to a path changes; None if it is absent."""
        where = approvals.written_object(path)
        if not where:
            return None
        method = "LIST" if where.endswith("/config/history") else "GET"
        params = {"version": version} if version else None
        try:
            reply = self.send(Request(method, where, params=params, fresh=True))
        except NotFoundError:
            return None
        except BadRequestError as error:
            if any(error.says(text) for text in _NOTHING_THERE):
                return None
            raise
        # The protection of the process differs between nodes, and no write changes it.
        data = {name: value for name, value in (reply.data or {}).items() if name != "process"}
        return approvals.written_part(path, data)

    def _parked(self, call: OutgoingRequest, outcome: CallPending) -> Reply:
        """Wait for the approval, or store the request for the next run, or withdraw it."""
        if outcome.parked is None:
            return self._swallowed(call, outcome)
        if call.wraps or call.secret or not approvals.may_wait(call):
            return super()._parked(call, outcome)
        if self._own_login().entity == "":
            gone = withdraw(self, outcome.parked.token, call.path)
            raise parked.no_entity(call.method, call.path, gone=gone)
        if outcome.resent:
            accessor = outcome.parked.accessor
            self._policy.tell(f"a reply was lost: {call.path} may wait twice; approve {accessor}")
        try:
            stored = self._described(call, outcome.parked)
        except BaseException:
            withdraw(self, outcome.parked.token, call.path)
            raise
        if not self._policy.wait:
            raise self._kept(stored)
        return self._waited(call, stored)

    def _swallowed(self, call: OutgoingRequest, outcome: CallPending) -> Reply:
        """Return an empty reply if the object has the state that the call should leave."""
        if approvals.may_wait(call) and approvals.shows(
            self._look(call.path, approvals.catalog_version(call)), call
        ):
            return outcome.reply
        raise parked.never_runs(call.method, call.path, outcome.reply)

    def _described(self, call: OutgoingRequest, info: WrapInfo) -> StoredRequest:
        ends = self._now() + timedelta(seconds=info.ttl)
        login = self._own_login().ends
        version = approvals.catalog_version(call)
        looks = not approvals.is_creds(call) and bool(approvals.written_object(call.path))
        return StoredRequest(
            token=info.token,
            accessor=info.accessor,
            method=call.method,
            path=call.path,
            version=version,
            namespace=namespace_of(call.path, self.server.namespace),
            digest=approvals.digest_of(call),
            before=approvals.body_digest(self._look(call.path, version)) if looks else "",
            run=self._run_id,
            scope=self._policy.scope,
            plan=self._policy.plan,
            cluster=self._cluster(),
            expires_at=rfc3339(min(ends, login) if login else ends),
        )

    def _waited(self, call: OutgoingRequest, stored: StoredRequest) -> Reply:
        try:
            state = self._wait_for(stored)
        except BaseException:
            problem = self._kept(stored).problems[0]
            self._policy.tell(f"{problem.summary}; {problem.why}; {problem.fix}")
            raise
        if state is RequestState.WAITING:
            raise self._kept(stored)
        reply = self._executed_now(call, stored) if state is RequestState.APPROVED else None
        if reply is None:
            raise parked.gone_meanwhile(stored)
        return reply

    def _executed_now(self, call: OutgoingRequest, stored: StoredRequest) -> Reply | None:
        """Run a request that is only in memory; store it after a lost reply."""
        try:
            return self._execute(call, stored)
        except ServerUnreachableError:
            self._kept(stored)
            raise

    def _wait_for(self, stored: StoredRequest) -> RequestState:
        """Poll until the request is approved or gone, or the wait has timed out."""
        until = min(self._now() + self._policy.wait, parse_rfc3339(stored.expires_at))
        self._policy.tell(f"waiting for an approval of {stored.path}: accessor {stored.accessor}")

        def wait(_state: RequestState, tries: int) -> bool:
            left = (until - self._now()).total_seconds()
            if left <= 0 or self._policy.stopping():
                return False
            self._pause(min(_POLL.pause(tries), left))
            return True

        return retry(
            lambda: self._state(stored), lambda state: state is not RequestState.WAITING, wait
        )

    def _kept(self, stored: StoredRequest) -> SkyflowctlError:
        """Store a request and return its error; withdraw the request if it cannot be stored."""
        store = self._pending_store()
        try:
            store.change(lambda entries: [*entries, stored])
        except SkyflowctlError as error:
            gone = withdraw(self, stored.token, stored.path)
            why = f"{error.problems[0].summary} ({error.problems[0].why})"
            return parked.nowhere_to_keep(stored, why, gone=gone)
        return parked.pending(stored, store.kind)

    def _state(self, stored: StoredRequest) -> RequestState:
        """Return the state of a request.

        A login without permission to ask by accessor learns from the token only whether the
        request is approved.
        """
        if parse_rfc3339(stored.expires_at) <= self._now():
            return RequestState.GONE
        try:
            reply = self.send(
                Request(
                    "POST",
                    "sys/control-group/request",
                    body={"accessor": stored.accessor},
                    headers=namespace_header(self, stored.path),
                    idempotent=True,
                )
            )
        except BadRequestError:
            return RequestState.GONE
        except ForbiddenError:
            approved = is_delivered(self, stored.token, stored.path)
            return RequestState.APPROVED if approved else RequestState.WAITING
        return approvals.state_in(reply)

    def _drop(self, stored: StoredRequest) -> str:
        """Revoke a request's token, and delete the entry; return what became of the request."""
        gone = withdraw(self, stored.token, stored.path)
        store = self._pending_store()
        if stored in store.load():
            store.change(lambda entries: [one for one in entries if one != stored])
        return "withdrawn" if gone else "not withdrawn, do not approve it"

    def close(self) -> None:
        """Delete entries that can no longer run, then close the connections."""
        try:
            if self.cluster_id:
                self._sweep(self._pending_store())
        except SkyflowctlError:
            pass  # an entry that could not be checked expires with its token
        finally:
            super().close()

    def _sweep(self, store: PendingStore) -> None:
        """Drop requests that are gone, or that ran before their command was killed."""
        for one in self._of_earlier_runs(store):
            state = self._state(one)
            ran = state is RequestState.APPROVED and self._has_changed(one)
            if state is RequestState.GONE or ran:
                self._drop(one)
                self._policy.tell(f"forgotten: a request of run {one.run} to {one.path}")

    def withdraw_unwanted(self, is_wanted: Callable[[str], bool]) -> None:
        """Withdraw requests that an earlier apply of this manifest left behind; see Transport."""
        for one in self._of_earlier_runs(self._pending_store()) if self._policy.scope else ():
            if one.scope == self._policy.scope and not is_wanted(one.path):
                done = self._drop(one)
                self._policy.tell(f"{done}: {one.path} of run {one.run}, no longer in the manifest")

    def _of_earlier_runs(self, store: PendingStore) -> list[StoredRequest]:
        return [one for one in store.load() if self._is_here(one) and one.run != self._run_id]

    def _pending_store(self) -> PendingStore:
        with self._store_lock:
            if self._store is None:
                self._store = CachedStore(self._policy.store(self._cluster()))
            return self._store

    def _cluster(self) -> str:
        if not self.cluster_id:
            self._learn_cluster()
        return self.cluster_id

    def _own_login(self) -> OwnLogin:
        if self._login is None:
            self._login = SystemApi(self).own_login()
        return self._login
