"""Enables audit devices on the dev stack: in its server's configuration, and by a SIGHUP.

The server takes them from nothing else. Only here is the server's process known to be ours.
"""

import re
import signal
from collections.abc import Container, Mapping
from typing import Any

from skyflowctl.devstack.layout import DevLayout
from skyflowctl.devstack.processes import alive, find_process, wait_until
from skyflowctl.devstack.server import log_size
from skyflowctl.devstack.state import load_state, locked, not_running
from skyflowctl.errors import PartlyDoneError
from skyflowctl.private_files import write_private
from skyflowctl.vault.audit_devices import AUDIT_DEVICES, audit_devices, stanza
from skyflowctl.vault.transport import Reply, Request, Transport, TransportWrapper

RELOAD_SECONDS = 10.0
_REFUSED = re.compile(
    r"(?:failed to set up audit logs on reload|could not reload config): .*?error=(.*)"
)
_STANZA = re.compile(r'^audit "\w+" "((?:[^"\\]|\\.)*)" { .*}\n', re.MULTILINE)
"""A device that this module wrote: one line. The stack's own device has several."""


class ReloadingTransport(TransportWrapper):
    """A transport to a dev stack that has the writes to ``sys/audit`` of other servers.

    Args:
        inner: to the dev stack.
        layout: its folder.
    """

    def __init__(self, inner: Transport, layout: DevLayout) -> None:
        super().__init__(inner)
        self._layout = layout

    def send(self, request: Request) -> Reply:
        """Send one request; enable a device by the server's configuration."""
        if request.reads or not request.path.startswith(f"{AUDIT_DEVICES}/"):
            return super().send(request)
        with locked(self._layout):
            self._enable(request.path, request.body or {})
        return Reply(204)

    def _enable(self, path: str, body: Mapping[str, Any]) -> None:
        """Add a device to the configuration, and wait until the server has it.

        Raises:
            PartlyDoneError: it refuses the device; the configuration is as before.
        """
        server = load_state(self._layout).server
        process = find_process(server.process) if server else None
        if server is None or process is None:
            raise not_running()
        config, log = self._layout.server_config, self._layout.server_log
        start, before = log_size(log), _live_only(config.read_text(), audit_devices(self._inner))
        write_private(config, f"{before}{stanza(path, body)}\n")
        process.send_signal(signal.SIGHUP)

        def refused() -> str:
            found = _REFUSED.search(log.read_bytes()[start:].decode(errors="replace"))
            return found[1].strip() if found else ""

        def settled() -> bool:
            return path in audit_devices(self._inner) or bool(refused())

        wait_until(settled, alive=lambda: alive(server.process), seconds=RELOAD_SECONDS)
        if path in audit_devices(self._inner):
            return
        write_private(config, before)
        raise PartlyDoneError(
            f"{path} was not enabled: the dev stack's server did not add it",
            why=refused() or f"it did not within {RELOAD_SECONDS:.0f} s",
            fix=f"see {log}; correct the device in the manifest, then run the same command again",
            code="audit-device-refused",
        )


def _live_only(config: str, live: Container[str]) -> str:
    """Return a configuration without the devices that the server does not list.

    A run that was killed left them. The server reloads nothing as long as one of them is bad.
    """

    def kept(found: re.Match[str]) -> str:
        return found[0] if f"{AUDIT_DEVICES}/{found[1]}" in live else ""

    return _STANZA.sub(kept, config)
