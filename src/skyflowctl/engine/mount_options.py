"""Reads a mount's options when the engine is set up."""

from collections.abc import Mapping

from skyflowctl.clock import time_or_none
from skyflowctl.engine.records import RevocationRecord
from skyflowctl.frozen import dataclass

# The same prefix as skyflowctl.vault.decode.REVOKED_MARK: commands write these options.
_MARK = "revoked_"


@dataclass(frozen=True, slots=True)
class EarlierCutOff:
    """A cut-off on an engine with the basic API, before this engine replaced it.

    Args:
        record: as the mount's options have it.
        client_id: of the key; empty if it was not known.
    """

    record: RevocationRecord
    client_id: str = ""


def earlier_cut_off(options: Mapping[str, str]) -> EarlierCutOff | None:
    """Return the cut-off in the options; None: none, or one without a time."""
    moment = time_or_none(options.get(f"{_MARK}at"))
    if moment is None:
        return None
    by, reason, run, key_id, client_id = (
        options.get(_MARK + name, "") for name in ("by", "reason", "run", "key_id", "client_id")
    )
    return EarlierCutOff(RevocationRecord(moment, by, reason, run, key_id), client_id)
