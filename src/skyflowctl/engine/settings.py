"""The settings of the plugin, the same for all of its mounts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS

if TYPE_CHECKING:
    from skyflowctl.engine.observed import EngineTelemetry


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The settings that the catalog entry's arguments give.

    Args:
        allowed_hosts: ``host:port`` of every token service that may see an assertion.
        credentials_directory: below it, in a folder of the mount's own, files may be
            named by ``credentials_file_path``; None switches that field off.
        mint_deadline: seconds that one exchange may take.
        health_seconds: seconds that one health check may take; less than the 10 s that
            ``skyflowctl health`` waits, so that a slow token service has a name.
        max_in_flight: exchanges of one mount at a time; later ones wait in order.
        max_waiting: how many may wait; one more is refused.
        max_wait: seconds that one waits at most.
        health_ttl: seconds for which a health result is cached.
        process: how the process is protected, as config read shows it; None: unknown.
        telemetry: the process's own; None: nothing is measured.
    """

    allowed_hosts: frozenset[str] = SKYFLOW_HOSTS
    credentials_directory: str | None = None
    mint_deadline: float = 10.0
    health_seconds: float = 8.0
    max_in_flight: int = 64
    max_waiting: int = 1024
    max_wait: float = 10.0
    health_ttl: float = 30.0
    process: Mapping[str, bool] | None = None
    telemetry: "EngineTelemetry | None" = None
