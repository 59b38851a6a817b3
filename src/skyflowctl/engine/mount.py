"""What the paths of one mount work with."""

from dataclasses import dataclass

from skyflowctl.clock import Clock
from skyflowctl.engine.exchanges import ExchangeSet
from skyflowctl.engine.settings import EngineSettings
from skyflowctl.engine.store import MountStore
from skyflowctl.engine.verification import Verifier


@dataclass(frozen=True, slots=True)
class EngineMount:
    """One mount: its store, its way to the token service, its settings and its clock."""

    store: MountStore
    exchanges: ExchangeSet
    verifier: Verifier
    settings: EngineSettings
    clock: Clock
