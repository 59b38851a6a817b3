"""How this process sends telemetry, by its environment.

The names are OpenTelemetry's own, and three of the public Go plugin's: ``TELEMETRY_ENABLED``,
``ENV`` and ``RUNTIME_LOCAL``. What the SDK reads by itself (endpoints, headers, certificates)
is not repeated here.
"""

import logging
from collections.abc import Mapping

from skyflowctl.frozen import dataclass
from skyflowctl.telemetry.spans import Sampler
from skyflowctl.telemetry.switch import telemetry_flag, telemetry_is_on

_LOG = logging.getLogger(__name__)
_SAMPLERS = {
    "always_on": Sampler(1.0, parent_based=False),
    "always_off": Sampler(0.0, parent_based=False),
    "traceidratio": Sampler(1.0, parent_based=False),
    "parentbased_always_on": Sampler(1.0),
    "parentbased_always_off": Sampler(0.0),
    "parentbased_traceidratio": Sampler(1.0),
}
_BATCHES = {
    "OTEL_BSP_MAX_QUEUE_SIZE": ("max_queue_size", 2048),
    "OTEL_BSP_SCHEDULE_DELAY": ("schedule_delay_millis", 5000),
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": ("max_export_batch_size", 512),
    "OTEL_BSP_EXPORT_TIMEOUT": ("export_timeout_millis", 30_000),
}
"""The SDK's parameter of each variable, and the specification's default."""
_LARGEST, _DIGITS = (1 << 31) - 1, 10
HTTP, GRPC = "http/protobuf", "grpc"

TELEMETRY_NAMES = frozenset(
    {
        "ENV",
        "RUNTIME_LOCAL",
        "TELEMETRY_ENABLED",
        "OTEL_SDK_DISABLED",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_BSP_EXPORT_TIMEOUT",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_METRIC_EXPORT_INTERVAL",
    }
    | {
        f"OTEL_EXPORTER_OTLP_{signal}{name}"
        for signal in ("", "TRACES_", "METRICS_")
        for name in (
            "ENDPOINT",
            "PROTOCOL",
            "HEADERS",
            "TIMEOUT",
            "COMPRESSION",
            "INSECURE",
            "CERTIFICATE",
            "CLIENT_KEY",
            "CLIENT_CERTIFICATE",
        )
    }
)
"""Every variable that has an effect. All other OTEL_* names are ignored, above all those that
select code: exporters, propagators, resource detectors and whatever begins with OTEL_PYTHON_."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What the SDK does not read from the environment by itself.

    Args:
        environment: the deployment's name (``ENV``); may be empty.
        sampler: decides which traces are recorded.
        batches: the SDK's parameters of a batch of spans; one that is missing is the SDK's choice.
        traces: the protocol of traces, :data:`HTTP` or :data:`GRPC`.
        metrics: the protocol of metrics.
    """

    environment: str
    sampler: Sampler
    batches: Mapping[str, int]
    traces: str = HTTP
    metrics: str = HTTP


def telemetry_settings(environ: Mapping[str, str]) -> TelemetrySettings | None:
    """Return the settings, or None if no telemetry is asked for."""
    if not telemetry_is_on(environ):
        return None
    for name in ("TELEMETRY_ENABLED", "OTEL_SDK_DISABLED", "RUNTIME_LOCAL"):
        if environ.get(name) and telemetry_flag(environ, name) is None:
            _LOG.warning("telemetry: %s is neither true nor false, and is ignored", name)
    shared = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    return TelemetrySettings(
        environ.get("ENV", ""),
        _sampler(environ),
        _batches(environ),
        _protocol(environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or shared),
        _protocol(environ.get("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL") or shared),
    )


def _protocol(text: str) -> str:
    if text and text not in (HTTP, GRPC):
        _LOG.warning("telemetry: OTEL_EXPORTER_OTLP_PROTOCOL is %s, or %s", HTTP, GRPC)
    return text if text in (HTTP, GRPC) else HTTP


def _batches(environ: Mapping[str, str]) -> dict[str, int]:
    """Return how spans are batched; the SDK would not start with a number that it cannot use."""
    found = {}
    for name, (parameter, default) in _BATCHES.items():
        text = environ.get(name, "")
        found[parameter] = default
        if text.isdecimal() and len(text) <= _DIGITS and 0 < int(text) <= _LARGEST:
            found[parameter] = int(text)
        elif text:
            _LOG.warning(
                "telemetry: %s is no number from 1 to %d; %d is used", name, _LARGEST, default
            )
    # A batch is no larger than the queue that it is taken from.
    found["max_export_batch_size"] = min(found["max_export_batch_size"], found["max_queue_size"])
    return found


def _sampler(environ: Mapping[str, str]) -> Sampler:
    name = environ.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
    sampler = _SAMPLERS.get(name)
    if sampler is None:
        _LOG.warning("telemetry: OTEL_TRACES_SAMPLER is unknown, every trace is sampled")
        return Sampler()
    if not name.endswith("traceidratio"):
        return sampler
    try:
        ratio = float(environ.get("OTEL_TRACES_SAMPLER_ARG") or 1.0)
    except ValueError:
        ratio = -1.0
    if not 0.0 <= ratio <= 1.0:
        _LOG.warning("telemetry: OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1; 1 is used")
        ratio = 1.0
    return Sampler(ratio, sampler.parent_based)
