"""The names that a collector's Prometheus exporter gives to the engine's metrics."""

from __future__ import annotations

from skyflowctl.engine import observed

_GAUGES = (observed.QUEUE_LENGTH, observed.CREDENTIAL_AGE, observed.CREDENTIAL_EXPIRY)


def exported(metric) -> set[str]:
    """A metric's names: ``e2e/test_collector`` holds them against the exporter.

    By OpenTelemetry's rules: dots become underscores, then the unit unless it is in braces, then
    _total for a counter and the three of a histogram.
    """
    name = metric.name.replace(".", "_") + {"s": "_seconds"}.get(metric.unit, "")
    if metric.bounds:
        return {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    return {name if metric in _GAUGES else f"{name}_total"}
