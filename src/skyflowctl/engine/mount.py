"""The parts that the paths of one mount share."""

from skyflowctl.clock import Clock
from skyflowctl.engine.exchanges import ExchangeSet
from skyflowctl.engine.reuse import ReusedTokens
from skyflowctl.engine.settings import EngineSettings
from skyflowctl.engine.store import MountStore
from skyflowctl.engine.verification import Verifier
from skyflowctl.frozen import dataclass


@dataclass(frozen=True, slots=True)
class EngineMount:
    """One mount: its store, token service, settings, clock and reusable tokens."""

    store: MountStore
    exchanges: ExchangeSet
    verifier: Verifier
    settings: EngineSettings
    clock: Clock
    reused: ReusedTokens
