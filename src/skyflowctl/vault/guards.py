"""Whether a path is guarded by a control group, asked before a secret is sent there.

Neither capabilities nor policies that may be read show a guard. A body that no path takes
does: an engine answers 400, a guarded path parks it.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from skyflowctl.vault import parked
from skyflowctl.vault.failures import BadRequest, GuardedError, NotFound
from skyflowctl.vault.transport import Reply, Transport, encode_body

_PROBE: Mapping[str, Any] = {"skyflowctl_guard_probe": True}
# An engine with the basic API drops unknown fields; an empty credential it refuses (400).
_CONFIG_PROBE: Mapping[str, Any] = {**_PROBE, "credentials_json": ""}
PROBE_CONTENTS = frozenset({encode_body(_PROBE), encode_body(_CONFIG_PROBE)})


def guard_probe(path: str) -> Mapping[str, Any]:
    """Return a body that no engine takes at a path, and that changes nothing there."""
    return _CONFIG_PROBE if path.endswith("/config") else _PROBE


_Ask = Callable[[str, str], Reply]


@runtime_checkable
class ProbesGuards(Protocol):
    """A transport to a server that may have control groups."""

    def refuse_guarded(self, method: str, path: str) -> None:
        """Refuse to send a secret to a path whose approvers would see it.

        Raises:
            GuardedError: a control group guards it; nothing was written.
        """


def refuse_guarded(transport: Transport, method: str, path: str) -> None:
    """Refuse a secret as :meth:`ProbesGuards.refuse_guarded`; a server in memory has no guards."""
    if isinstance(transport, ProbesGuards):
        transport.refuse_guarded(method, path)


def refuse_guarded_config(transport: Transport, path: str) -> None:
    """Refuse a key for the config of the mount at a path, before anything is begun for it.

    Raises:
        GuardedError: a control group guards the config; nothing was written.
    """
    refuse_guarded(transport, "POST", f"{path}/config")


class Guards:
    """What one run knows of the guards; each path is asked once. Safe for threads.

    Args:
        ask: sends the probe with a method to a path.
    """

    def __init__(self, ask: _Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._guarded: dict[tuple[str, str], bool] = {}

    def refuse(self, method: str, path: str) -> None:
        """Refuse a secret; see :class:`ProbesGuards`."""
        with self._lock:
            if (method, path) not in self._guarded:
                self._guarded[method, path] = self._is_guarded(method, path)
        if self._guarded[method, path]:
            raise parked.secret_refused(method, path)

    def _is_guarded(self, method: str, path: str) -> bool:
        try:
            self._ask(method, path)
        except GuardedError as error:
            if error.problems[0].code == "control_group_without_ttl":
                raise
            return True
        except (BadRequest, NotFound):
            return False
        return False
