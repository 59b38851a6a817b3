"""``python -m support.rotation_held N LOG… -- ARGS``: skyflowctl, its commits held back.

Before it commits a rotation it waits until the servers' audit logs (LOG) show N more
answered reads of tokens than they did after the write. How fast this machine reads then
does not matter, only how long the test takes.
"""

from __future__ import annotations

import functools
import sys
import time
from pathlib import Path
from typing import Any

from skyflowctl.vault.http_transport import HttpTransport
from skyflowctl.vault.transport import Request

_LONGEST = 60.0


class Gauge:
    """Counts the answered reads of tokens in audit logs, from now on."""

    def __init__(self, logs: list[Path]) -> None:
        self._read_to = {log: log.stat().st_size for log in logs}
        self.count = 0

    def look(self) -> int:
        """How many there were since it was made."""
        for log, start in self._read_to.items():
            with log.open("rb") as text:
                text.seek(start)
                whole = text.read().rpartition(b"\n")[0]
            self._read_to[log] = start + len(whole)
            self.count += sum(
                b'"type":"response"' in line and b"/creds/" in line for line in whole.split(b"\n")
            )
        return self.count


def hold_commits(reads: int, logs: list[Path]) -> None:
    """Have every commit of this process wait for so many reads."""
    send = HttpTransport.send

    @functools.wraps(send)
    def held(self: Any, request: Request) -> Any:
        if request.path.endswith("/config/commit"):
            gauge, until = Gauge(logs), time.monotonic() + _LONGEST
            while gauge.look() < reads and time.monotonic() < until:
                time.sleep(0.02)
        return send(self, request)

    HttpTransport.send = held


if __name__ == "__main__":
    end = sys.argv.index("--")
    hold_commits(int(sys.argv[1]), [Path(log) for log in sys.argv[2:end]])
    sys.argv = ["skyflowctl", *sys.argv[end + 1 :]]
    from skyflowctl.cli.main import main

    main()
