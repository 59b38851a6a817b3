"""What a scan of logs looks for, and which part of a text it can search for."""

import re

from skyflowctl.audit.reorder import REORDER_SECONDS
from skyflowctl.frozen import dataclass

_SAFE_RUN = re.compile(r"[A-Za-z0-9:_.,;=@#%+~^*()!?|-]+")
_NEEDLE_MIN = 4


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What a scan looks for.

    Args:
        plugin_names: the mount types of the engine.
        mounts: paths of mounts that are the engine's whatever their type; not a filter.
        prefilter: only lines that contain one of these texts are decoded (besides logins and
            unwraps), so only they can be found damaged. The records must still be filtered,
            because a line may contain the text elsewhere. Empty: every line.
        device_hashes: with a prefilter: the hashes of ``Bearer`` by the devices that were asked.
        hash_field: the beginning of the only hashes that matter; answers without them were
            searched. Empty: all do.
        notice: with a prefilter: texts that ``Scan.noticed`` reports if they occur, although
            the lines that contain them are not decoded.
        wrapped: with a prefilter: also decode every wrapped answer, because only its unwrap
            shows the text (a bearer's hash).
        reorder_seconds: how long a record waits for earlier ones; 0 when following.
        every_change: also yield changes of roles and of the server's own settings, and all
            requests of root tokens; only ``rows`` yields them.
        hold_wrapped: a wrapped record waits until its unwrap is known (or its ttl has ended,
            or the log ends), so it is out of order.
    """

    plugin_names: tuple[str, ...] = ("skyflow",)
    mounts: tuple[str, ...] | None = None
    prefilter: tuple[bytes, ...] = ()
    notice: tuple[bytes, ...] = ()
    device_hashes: tuple[bytes, ...] = ()
    hash_field: bytes = b""
    wrapped: bool = False
    reorder_seconds: float = REORDER_SECONDS
    hold_wrapped: bool = True
    every_change: bool = False


def needle(text: str) -> bytes | None:
    """Return the longest part of a text that no JSON writer escapes.

    None if no part has a useful length; every line must then be decoded.
    """
    runs = _SAFE_RUN.findall(text)
    longest = max(runs, key=len, default="")
    return longest.encode() if len(longest) >= _NEEDLE_MIN else None
