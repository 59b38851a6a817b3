"""Detects which paths a control group guards, before a secret is sent to one.

Neither capabilities nor readable policies show a guard. A probe does: the same operation with a
field that no engine knows. An engine answers 400; a guarded path parks the probe. If a policy
restricts the allowed parameters, the server answers 403 and the guard stays unknown.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from skyflowctl.errors import Problem
from skyflowctl.vault import parked
from skyflowctl.vault.errors import BadRequestError, ForbiddenError, GuardedError, NotFoundError
from skyflowctl.vault.kv import MERGE_PATCH
from skyflowctl.vault.system_api import SystemApi
from skyflowctl.vault.transport import Request, Transport, encode_body

_PROBE: Mapping[str, Any] = {"skyflowctl_guard_probe": True}
# An engine with the basic API ignores unknown fields; it answers 400 to an empty credential.
_CONFIG_PROBE: Mapping[str, Any] = {**_PROBE, "credentials_json": ""}
PROBE_CONTENTS = frozenset({encode_body(_PROBE), encode_body(_CONFIG_PROBE)})


def secret_paths(mount: str, *, verified: bool) -> tuple[str, ...]:
    """Return the paths of a mount that receive a key when it is made live.

    Args:
        mount: its path.
        verified: whether the key is verified before it is written.
    """
    config = f"{mount}/config"
    return (config, f"{config}/verify") if verified else (config,)


def guard_probe(path: str) -> Mapping[str, Any]:
    """Return a body that every engine rejects at a path, so that it changes nothing."""
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

    def refuse(self, method: str, path: str) -> Problem | None:
        """Refuse a secret; see :meth:`Transport.refuse_guarded`."""
        guarded = self._probed(method, path).result()
        if guarded:
            raise parked.secret_refused(method, path)
        return parked.guard_unknown(method, path) if guarded is None else None

    def _probed(self, method: str, path: str) -> Future[bool | None]:
        """Return the result of this path's probe, which another thread may still be waiting for."""
        with self._lock:
            known = self._probes.get((method, path))
            if known is not None:
                return known
            probe = self._probes[method, path] = Future()
        try:
            probe.set_result(self._is_guarded(method, path))
        except BaseException as error:  # noqa: BLE001 - raised by result()
            with self._lock:
                del self._probes[method, path]  # the next call probes again
            probe.set_exception(error)
        return probe

    def _is_guarded(self, method: str, path: str) -> bool | None:
        """Send the probe; None if the login may write there but may not send the probe."""
        try:
            # A PATCH of another content type is refused before any rule is looked at.
            headers = MERGE_PATCH if method == "PATCH" else None
            body = guard_probe(path)
            self._transport.send(Request(method, path, body=body, headers=headers, idempotent=True))
        except GuardedError as error:
            if error.problems[0].code == "control_group_without_ttl":
                raise
            return True
        except ForbiddenError:
            if not self._may_write(path):
                raise
            return None
        except (BadRequestError, NotFoundError):
            return False
        return False

    def _may_write(self, path: str) -> bool:
        """Whether this login may write to a path; True also if it may not ask for that."""
        try:
            held = SystemApi(self._transport).capabilities([path])[path]
        except ForbiddenError:
            return True
        return bool({"create", "update"} & set(held))
