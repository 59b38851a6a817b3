"""Detects which paths a control group guards, before a secret is sent to one.

Neither capabilities nor readable policies show a guard. A probe does: the same operation with a
field that no engine knows. An engine answers 400; a guarded path parks the probe. If a policy
restricts the allowed parameters, the server answers 403 and the guard stays unknown.
"""

import threading
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.vault import parked
from skyflowctl.vault.errors import BadRequestError, ForbiddenError, GuardedError, NotFoundError
from skyflowctl.vault.kv import MERGE_PATCH
from skyflowctl.vault.permissions import ANY_WRITE, missing_permissions
from skyflowctl.vault.system_api import SystemApi
from skyflowctl.vault.transport import Request, Transport

_PROBE: Mapping[str, Any] = {"skyflowctl_guard_probe": True}
# An engine with the basic API ignores unknown fields; it answers 400 to an empty credential.
_CONFIG_PROBE: Mapping[str, Any] = {**_PROBE, "credentials_json": ""}
_CHECKED = frozenset({"credentials_json", "data"})
"""Bodies with one of these fields go to engines that reject an unknown field alone."""


def sends_guard_probe(content: bytes | None) -> bool:
    """Whether a request's body is a probe of this module."""
    return b'"skyflowctl_guard_probe"' in (content or b"")


def secret_paths(mount: str, *, verified: bool) -> tuple[str, ...]:
    """Return the paths of a mount that receive a key when it is made live.

    Args:
        mount: its path.
        verified: whether the key is verified before it is written.
    """
    config = f"{mount}/config"
    return (config, f"{config}/verify") if verified else (config,)


def guard_probe(path: str, names: Collection[str] = ()) -> Mapping[str, Any]:
    """Return a body that every engine rejects at a path, so that it changes nothing.

    Args:
        path: the path.
        names: the fields to be sent. Engines of the server ignore unknown fields, and refuse a
            map where a text, a number or a list is expected (measured on OpenBao 2.7.2: with
            400, and with 500 at a login, where an empty one is refused).
    """
    if names and not _CHECKED & set(names) and "/login" not in path:
        return {**_PROBE, **dict.fromkeys(names, _PROBE)}
    return _CONFIG_PROBE if path.endswith(("/config", "/config/verify")) else _PROBE


class Guards:
    """The guards that one run has found; it probes each path once. Safe for threads.

    Args:
        transport: sends the probes.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._probes: dict[tuple[str, str], Future[bool | None]] = {}

    def refuse(self, method: str, path: str, names: Collection[str] = ()) -> Problem | None:
        """Refuse a secret in the fields ``names``; see :meth:`Transport.refuse_guarded`."""
        guarded = self._probed(method, path, names).result()
        if guarded:
            raise parked.secret_refused(method, path)
        return parked.guard_unknown(method, path) if guarded is None else None

    def _probed(self, method: str, path: str, names: Collection[str]) -> Future[bool | None]:
        """Return the result of this path's probe, which another thread may still be waiting for."""
        with self._lock:
            known = self._probes.get((method, path))
            if known is not None:
                return known
            probe = self._probes[method, path] = Future()
        try:
            probe.set_result(self._is_guarded(method, path, names))
        except BaseException as error:  # noqa: BLE001 - raised by result()
            with self._lock:
                del self._probes[method, path]  # the next call probes again
            probe.set_exception(error)
        return probe

    def _is_guarded(self, method: str, path: str, names: Collection[str]) -> bool | None:
        """Send the probe; None if the login may write there but may not send the probe.

        A policy that denies keys at a config denies the probe with one, so one without follows.
        """
        body = guard_probe(path, names)
        try:
            return self._parks(method, path, body)
        except ForbiddenError:
            if not self._may_write(path):
                raise
        try:
            return self._parks(method, path, _PROBE) if body is _CONFIG_PROBE else None
        except ForbiddenError:
            return None

    def _parks(self, method: str, path: str, body: Mapping[str, Any]) -> bool:
        """Whether the server parks this probe."""
        # A PATCH of another content type is refused before any rule is looked at.
        headers = MERGE_PATCH if method == "PATCH" else None
        try:
            self._transport.send(Request(method, path, body=body, headers=headers, idempotent=True))
        except GuardedError as error:
            if error.problems[0].code == "control_group_without_ttl":
                raise
            return True
        except (BadRequestError, NotFoundError):
            return False
        return False

    def _may_write(self, path: str) -> bool:
        """Whether this login may write to a path; True also if it may not ask for that."""
        try:
            return not missing_permissions(SystemApi(self._transport), [(path, ANY_WRITE)])
        except ForbiddenError:
            return True
