"""Starts telemetry; nothing of OpenTelemetry is imported unless the environment asks for it."""

import logging
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from skyflowctl.frozen import dataclass
from skyflowctl.telemetry.settings import TELEMETRY_NAMES, telemetry_settings
from skyflowctl.telemetry.spans import Tracer

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_LOG = logging.getLogger(__name__)
Attributes = Mapping[str, str]
Gauge = Callable[[], Iterable[tuple[float, Attributes]]]
"""Returns the present values with their attributes; called in the SDK's own thread."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's published name.

    Args:
        name: as collectors see it.
        unit: ``s`` for seconds; ``{request}`` and the like for counts.
        description: one sentence.
        bounds: the upper bounds of a histogram's buckets; empty for other kinds.
    """

    name: str
    unit: str
    description: str
    bounds: tuple[float, ...] = ()


class Telemetry(Protocol):
    """Traces and metrics of this process; implemented by ``export.OtlpTelemetry``.

    Nothing here waits for the collector, except :meth:`flush`.
    """

    @property
    def tracer(self) -> Tracer:
        """Starts spans."""

    def counter(self, metric: Metric) -> Callable[[int, Attributes], None]:
        """Return a function that adds to a counter."""

    def histogram(self, metric: Metric) -> Callable[[float, Attributes], None]:
        """Return a function that records one value of a distribution."""

    def gauge(self, metric: Metric, read: Gauge) -> None:
        """Have the present values read at every export."""

    def flush(self, seconds: float) -> None:
        """Send what there is, for at most these seconds; at once if the collector fails."""

    def close(self, seconds: float) -> None:
        """Send what there is, for at most these seconds, and end the threads."""


def start_telemetry(
    service: str, version: str, environ: "MutableMapping[str, str]" = os.environ
) -> Telemetry | None:
    """Return the telemetry of this process, or None if none is asked for or it cannot start.

    Args:
        service: the service's name; ``OTEL_SERVICE_NAME`` has precedence.
        version: the service's version.
        environ: this process's; names that would make the SDK load other code are removed.
    """
    settings = telemetry_settings(environ)
    if settings is None:
        return None
    for name in [one for one in environ if one.startswith("OTEL_")]:
        if name not in TELEMETRY_NAMES:
            del environ[name]
            _LOG.warning("telemetry: %s is not supported, and is ignored", name)
    try:
        with warnings.catch_warnings():  # requests misses a library that a launcher leaves out
            warnings.simplefilter("ignore")
            from skyflowctl.telemetry.export import OtlpTelemetry

        return OtlpTelemetry(settings, service, version)
    except ImportError as error:
        extra = "otel-grpc" if "grpc" in (settings.traces, settings.metrics) else "otel"
        _LOG.error(  # noqa: TRY400 - the traceback adds nothing
            "telemetry: asked for, but %s is not installed: pip install 'skyflowctl[%s]'",
            error.name,
            extra,
        )
    except Exception as error:  # noqa: BLE001 - requests are served without telemetry
        _LOG.error("telemetry: cannot start: %s", type(error).__name__)  # noqa: TRY400
    return None
