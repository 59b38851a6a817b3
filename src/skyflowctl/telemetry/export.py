"""The SDK's part: batches, metrics and OTLP exporters, all constructed here.

The SDK would choose exporters, samplers and resource detectors by the names of entry points; here,
none is looked up. Exports run in the SDK's own threads. A collector that fails costs dropped data
and one line of the log in ten minutes, never a request.
"""

import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any
from uuid import uuid4

import requests
from opentelemetry.metrics import Meter, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags
from opentelemetry.trace import SpanKind as SdkSpanKind
from opentelemetry.trace.status import Status, StatusCode

from skyflowctl.telemetry.settings import GRPC, TelemetrySettings
from skyflowctl.telemetry.spans import TraceContext, Tracer, TraceSpan
from skyflowctl.telemetry.start import Attributes, Gauge, Metric

_LOG = logging.getLogger(__name__)
_SAY_AGAIN_SECONDS = 600.0
_FAILING_SECONDS = 60.0
_TIMEOUT = 10.0
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_KINDS = {kind.value: kind for kind in SdkSpanKind}
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)


class OtlpTelemetry:
    """Sends over OTLP; see :class:`~skyflowctl.telemetry.start.Telemetry`.

    Args:
        settings: what the SDK does not read by itself.
        service: the service's name, unless the environment names it.
        version: the service's version.
    """

    def __init__(self, settings: TelemetrySettings, service: str, version: str) -> None:
        self._settings = settings
        self._resource = _resource(settings, service, version)
        self._scope = InstrumentationScope("skyflowctl", version)
        self._problems = _Problems()
        spans = _span_exporter(settings.traces)
        self._exporters: list[Any] = [spans]
        self._batches: Any = BatchSpanProcessor(spans)
        self.tracer = Tracer(settings.sampler, self._ended)

    def counter(self, metric: Metric) -> Callable[[int, Attributes], None]:
        """Return a function that adds to a counter."""
        return self._meter.create_counter(metric.name, metric.unit, metric.description).add

    def histogram(self, metric: Metric) -> Callable[[float, Attributes], None]:
        """Return a function that records one value of a distribution."""
        return self._meter.create_histogram(
            metric.name,
            metric.unit,
            metric.description,
            explicit_bucket_boundaries_advisory=metric.bounds,
        ).record

    def gauge(self, metric: Metric, read: Gauge) -> None:
        """Have the present values read at every export."""

        def observe(_options: object) -> Iterable[Observation]:
            return [Observation(value, attributes) for value, attributes in read()]

        self._meter.create_observable_gauge(metric.name, [observe], metric.unit, metric.description)

    def flush(self, seconds: float) -> None:
        """Send what there is, for at most these seconds; at once if the collector fails."""
        if self._problems.recent():
            return
        _within(seconds, self._send_all)

    def close(self, seconds: float) -> None:
        """Send what there is, for at most these seconds, and end the threads."""
        if not self._problems.closed:
            self.flush(seconds)
            self._problems.closed = True
            _within(seconds, self._end)

    def _end(self) -> None:
        for exporter in self._exporters:
            exporter.shutdown()  # first, because it ends the pause before a repetition
        self._batches.shutdown()
        if "_meters" in self.__dict__:
            self._meters.shutdown()

    def _send_all(self) -> None:
        self._batches.force_flush()
        if "_meters" in self.__dict__:
            self._meters.force_flush()

    @cached_property
    def _meters(self) -> MeterProvider:
        # A process that has no metrics has no thread for them.
        exporter = _metric_exporter(self._settings.metrics)
        self._exporters.append(exporter)
        return MeterProvider(
            [PeriodicExportingMetricReader(exporter)],
            self._resource,
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )

    @cached_property
    def _meter(self) -> Meter:
        return self._meters.get_meter(self._scope.name, self._scope.version)

    def _ended(self, span: TraceSpan) -> None:
        trace_id = span.context.trace_id
        parent = span.parent and _sdk_context(TraceContext(trace_id, span.parent, sampled=True))
        if span.error:
            span.attributes["error.type"] = span.error
        self._batches.on_end(
            ReadableSpan(
                name=span.name,
                context=_sdk_context(span.context),
                parent=parent or None,
                resource=self._resource,
                attributes=span.attributes,
                kind=_KINDS[span.kind],
                instrumentation_scope=self._scope,
                status=_ERROR if span.error else _UNSET,
                start_time=span.start,
                end_time=span.end,
            )
        )


def _within(seconds: float, work: Callable[[], None]) -> None:
    """Do what may last, and do not wait longer than these seconds for it."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)


def _sdk_context(context: TraceContext) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, is_remote=False, trace_flags=_SAMPLED)


def _resource(settings: TelemetrySettings, service: str, version: str) -> Resource:
    """Return what is said once of this process; OTEL_RESOURCE_ATTRIBUTES has precedence.

    Several processes of one service send the same metrics: the instance tells them apart.
    """
    own = {
        "service.name": service,
        "service.version": version,
        "service.instance.id": str(uuid4()),
        "host.name": socket.gethostname(),
    }
    if settings.environment:
        own["deployment.environment.name"] = settings.environment
    return Resource(own).merge(OTELResourceDetector().detect())


def _span_exporter(protocol: str) -> SpanExporter:
    if protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
            OTLPSpanExporter as GrpcSpanExporter,
        )

        return GrpcSpanExporter(timeout=_timeout("TRACES_"))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(
        session=_session(), certificate_file=_trusted("TRACES_"), timeout=_timeout("TRACES_")
    )


def _metric_exporter(protocol: str) -> MetricExporter:
    if protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
            OTLPMetricExporter as GrpcMetricExporter,
        )

        return GrpcMetricExporter(timeout=_timeout("METRICS_"))
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter(
        session=_session(), certificate_file=_trusted("METRICS_"), timeout=_timeout("METRICS_")
    )


def _session() -> requests.Session:
    """Return a session that reads no .netrc and follows no redirect."""
    session = requests.Session()
    session.auth = lambda request: request
    session.max_redirects = 0
    return session


def _trusted(signal: str) -> str | None:
    """Return the CA file; None where the environment names one, or the system has none."""
    names = (f"OTEL_EXPORTER_OTLP_{signal}CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")
    if any(os.environ.get(name) for name in names):
        return None
    return ssl.get_default_verify_paths().cafile


def _timeout(signal: str) -> float:
    """Return how many seconds an export may take.

    The variables are in milliseconds by OpenTelemetry's specification; this SDK would take their
    numbers for seconds.
    """
    names = (f"OTEL_EXPORTER_OTLP_{signal}TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
    text = next(filter(None, map(os.environ.get, names)), "")
    return int(text) / 1000 if text.isdecimal() and int(text) else _TIMEOUT


class _Problems(logging.Handler):
    """Takes the SDK's own log: says now and then that data is lost, and remembers when.

    A message may quote what a collector answered, so only numbers of it are repeated.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.closed = False
        self._seen = self._said = -_SAY_AGAIN_SECONDS
        library = logging.getLogger("opentelemetry")
        library.handlers[:] = [self]
        library.propagate = False

    def recent(self) -> bool:
        """Whether an export failed in the last minute."""
        return time.monotonic() - self._seen < _FAILING_SECONDS

    def emit(self, record: logging.LogRecord) -> None:
        """Note a failed export, or data that was dropped."""
        self._seen = now = time.monotonic()
        if self.closed or now - self._said < _SAY_AGAIN_SECONDS:
            return
        self._said = now
        args: Any = record.args if isinstance(record.args, tuple) else ()
        status = next((f" (status {one})" for one in args if type(one) is int and one > 99), "")
        _LOG.warning(
            "telemetry: the collector did not take data%s; what it does not take is dropped",
            status,
        )
