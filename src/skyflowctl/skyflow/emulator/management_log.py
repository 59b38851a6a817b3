"""What the emulator remembers of the calls to its Management API."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from skyflowctl.clock import rfc3339


@dataclass(frozen=True, slots=True)
class ManagementRecord:
    """One call in the log; never a token's or a key's text.

    Args:
        time: when it was carried out, or refused.
        operation: ``create_key``, ``list_keys``, ``get_key``, ``delete_key``; empty for
            another path or method.
        client_id: the account in the path.
        key_id: the key in the path, or the one that was created.
        applied: whether it was carried out, whatever was answered.
        status: what was answered; 0: nothing.
        message: the text of a refusal, or the type of an internal error.
        request_id: the answer's ``x-request-id``.
    """

    time: datetime
    operation: str
    client_id: str
    key_id: str
    applied: bool
    status: int
    message: str
    request_id: str

    def to_json(self) -> dict[str, Any]:
        """Return the record as the control API writes it."""
        return {**asdict(self), "time": rfc3339(self.time)}
