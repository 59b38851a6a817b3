"""A transport that remembers what the writes sent through it were answered besides."""

from skyflowctl.vault.transport import Reply, Request, Transport, TransportWrapper


class WriteRecorder(TransportWrapper):
    """Passes everything on; one is made for each action, so it needs no lock.

    ``request_id`` is that of the last write, ``warnings`` are those of all of them, and
    ``sent_by_run`` is the earlier run whose approved request was run.
    """

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.request_id = ""
        self.warnings: tuple[str, ...] = ()
        self.sent_by_run = ""

    def send(self, request: Request) -> Reply:
        """Send one request, and record the answer to a write."""
        reply = super().send(request)
        if not request.reads and not request.path.endswith("/config/verify"):
            self.request_id = reply.request_id
            self.sent_by_run = reply.sent_by_run or self.sent_by_run
            self.warnings = tuple(dict.fromkeys((*self.warnings, *_warnings(reply))))
        return reply


def _warnings(reply: Reply) -> tuple[str, ...]:
    """Return the server's own, and those that the engine has in its data as well.

    Each in one line. Only a real server has both; most are then there twice.
    """
    listed = (reply.data or {}).get("warnings")
    texts = (*reply.warnings, *(listed if isinstance(listed, list | tuple) else ()))
    return tuple(" ".join(str(text).split()) for text in texts)
