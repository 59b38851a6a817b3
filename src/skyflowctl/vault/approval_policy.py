"""What a command does with parked requests, as its options say."""

from collections.abc import Callable
from datetime import timedelta

from skyflowctl.frozen import dataclass
from skyflowctl.vault.pending_store import PendingStore


@dataclass(frozen=True, slots=True)
class ApprovalPolicy:
    """What a command does with a parked request.

    Args:
        store: opens the store of a cluster, given its id.
        wait: how long the command itself waits for the approval.
        tell: shows one line to a person.
        scope: the manifest of an apply; empty for any other command.
        plan: digest of the saved plan that is applied; empty for any other command.
        stopping: returns whether the command should stop.
        required: whether a write that runs without an approval is an error.
    """

    store: Callable[[str], PendingStore]
    wait: timedelta = timedelta()
    tell: Callable[[str], None] = lambda _text: None
    scope: str = ""
    stopping: Callable[[], bool] = lambda: False
    required: bool = False
    plan: str = ""
