"""Whether telemetry is on; all of it that a process without telemetry loads."""

from collections.abc import Mapping

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
# Environments in which the Go plugin ignores RUNTIME_LOCAL.
_NEVER_LOCAL = ("prod", "cug")
_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)


def telemetry_is_on(environ: Mapping[str, str]) -> bool:
    """Return whether telemetry is asked for: by name, or by the address of a collector.

    ``ENV=dev`` alone turns nothing on, and does not turn off what is asked for by name.
    """
    wanted = telemetry_flag(environ, "TELEMETRY_ENABLED")
    if wanted is False or telemetry_flag(environ, "OTEL_SDK_DISABLED"):
        return False
    if telemetry_flag(environ, "RUNTIME_LOCAL") and environ.get("ENV", "") not in _NEVER_LOCAL:
        return False
    return bool(wanted) or any(environ.get(name) for name in _ENDPOINTS)


def telemetry_flag(environ: Mapping[str, str], name: str) -> bool | None:
    """Return a variable that is true or false; None: it is neither."""
    value = environ.get(name, "").strip().lower()
    return value in _TRUE if value in _TRUE + _FALSE else None
