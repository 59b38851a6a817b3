"""Free loopback ports, saved in the dev folder so that addresses do not change."""

import socket


def server_port(preferred: int | None) -> int:
    """Return a free port P with P+1 free too, for the server's cluster listener."""
    if preferred and _free(preferred) and _free(preferred + 1):
        return preferred
    for _ in range(200):
        port = any_port(None)
        if port < 65535 and _free(port + 1):
            return port
    raise OSError("no two free loopback ports side by side")


def any_port(preferred: int | None) -> int:
    """Return the preferred port if it is free, else any free one."""
    if preferred and _free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # A listener that has just ended leaves connections in TIME_WAIT, which are harmless.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
