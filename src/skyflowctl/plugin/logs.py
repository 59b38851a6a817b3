"""The plugin's log: one JSON object per line on standard error, as a server reads it.

An exception is logged by its type and its place, without its text, which may quote a caller's data.
"""

import json
import logging
import sys
import time
import traceback
from types import TracebackType

_LEVELS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "error",
}


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON line, which a plugin host logs again at its level."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        entry = {
            "@level": _LEVELS.get(record.levelno, "info"),
            "@message": record.getMessage(),
            "@module": record.name,
            "@timestamp": _timestamp(record.created),
        }
        if record.exc_info and record.exc_info[0]:
            entry["exception"] = record.exc_info[0].__name__
            entry["at"] = _places(record.exc_info[2])
        return json.dumps(entry)


def _timestamp(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1_000_000):06d}Z"


def _places(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-4:]
    return " > ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)


class _OwnWordsOnly(logging.Filter):
    """Masks the messages of other libraries, which may quote transferred data."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("skyflowctl"):
            record.msg, record.args = "a problem in a library", ()
        return True


def install_logs(level: int = logging.INFO) -> None:
    """Send every log record of this process to standard error as JSON."""
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_OwnWordsOnly())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("skyflowctl").setLevel(level)
