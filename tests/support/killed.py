"""``python -m support.killed N -- ARGS``: skyflowctl, killed by SIGKILL after its Nth write.

A real SIGKILL of a real process; only the moment is chosen, by counting the good
answers to writes at the transport.
"""

from __future__ import annotations

import os
import signal
import sys

from skyflowctl.vault.http_transport import HttpTransport

# Asked with a body, so it must be a POST, but it changes nothing.
_QUESTIONS = frozenset({"sys/capabilities-self"})


def is_write(method: str, path: str) -> bool:
    """Tell whether a request changes the server."""
    return method not in {"GET", "LIST", "HEAD"} and path not in _QUESTIONS


def die_after(writes: int) -> None:
    original = HttpTransport.send
    done = 0

    def counted(self, request):
        nonlocal done
        reply = original(self, request)
        if is_write(request.method, request.path):
            done += 1
            if done == writes:
                os.kill(os.getpid(), signal.SIGKILL)
        return reply

    HttpTransport.send = counted


if __name__ == "__main__":
    die_after(int(sys.argv[1]))
    sys.argv = ["skyflowctl", *sys.argv[3:]]
    from skyflowctl.cli.main import main

    main()
