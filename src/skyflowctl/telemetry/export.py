"""The SDK's part: batches, metrics and OTLP exporters, all constructed here.

The SDK would choose exporters, samplers and resource detectors by the names of entry points; here,
none is looked up. Exports run in the SDK's own threads. A collector that fails costs dropped data
and one line of the log in ten minutes, never a request.
"""

import io
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any
from uuid import uuid4

import requests
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Gauge as SdkGauge
from opentelemetry.sdk.metrics.export import Metric as SdkMetric
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags
from opentelemetry.trace import SpanKind as SdkSpanKind
from opentelemetry.trace.status import Status, StatusCode

from skyflowctl.telemetry.series import CountSeries, SpreadSeries
from skyflowctl.telemetry.settings import GRPC, TelemetrySettings
from skyflowctl.telemetry.spans import TraceContext, Tracer, TraceSpan
from skyflowctl.telemetry.start import Attributes, Gauge, Metric

_LOG = logging.getLogger(__name__)
_SAY_AGAIN_SECONDS = 600.0
_FAILING_SECONDS = 60.0
_TIMEOUT, _INTERVAL = 10.0, 60.0
_LONGEST_ANSWER = 1 << 16  # bytes; a collector's answer has a few
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_EXPORTERS = "opentelemetry.exporter."
_READ_BY = {
    "opentelemetry.sdk.resources": "OTEL_RESOURCE_ATTRIBUTES",
    "opentelemetry.attributes": "OTEL_RESOURCE_ATTRIBUTES",
    "opentelemetry.util.re": "OTEL_EXPORTER_OTLP_HEADERS",
}
"""The variable that each of these modules of the SDK reads."""
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
        self._problems = _Problems()  # first: what the SDK says from here on may quote values
        self._resource = _resource(settings, service, version)
        self._scope = InstrumentationScope("skyflowctl", version)
        spans = _span_exporter(settings.traces)
        self._exporters: list[Any] = [spans]
        self._batches: Any = BatchSpanProcessor(spans, **dict[str, Any](settings.batches))
        self.tracer = Tracer(settings.sampler, self._ended)

    def counter(self, metric: Metric) -> Callable[[int, Attributes], None]:
        """Return a function that adds to a counter."""
        series = CountSeries(metric)
        self._reader.counts.append(series)
        return series.add

    def histogram(self, metric: Metric) -> Callable[[float, Attributes], None]:
        """Return a function that records one value of a distribution."""
        series = SpreadSeries(metric)
        self._reader.spreads.append(series)
        return series.record

    def gauge(self, metric: Metric, read: Gauge) -> None:
        """Have the present values read at every export."""
        self._reader.gauges.append((metric, read))

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
        if "_reader" in self.__dict__:
            self._reader.shutdown()

    def _send_all(self) -> None:
        self._batches.force_flush()
        if "_reader" in self.__dict__:
            self._reader.export()

    @cached_property
    def _reader(self) -> "_SeriesReader":
        # A process that has no metrics has no thread for them.
        exporter = _metric_exporter(self._settings.metrics)
        self._exporters.append(exporter)
        return _SeriesReader(exporter, self._resource, self._scope)

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


class _SeriesReader:
    """Exports the series of this process at intervals, in a thread of its own."""

    def __init__(
        self, exporter: MetricExporter, resource: Resource, scope: InstrumentationScope
    ) -> None:
        self.counts: list[CountSeries] = []
        self.spreads: list[SpreadSeries] = []
        self.gauges: list[tuple[Metric, Gauge]] = []
        self._resource, self._scope = resource, scope
        self._started = time.time_ns()
        self._exporter = exporter
        self._exporting, self._stop = threading.Lock(), threading.Event()
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def _run(self) -> None:
        interval = _milliseconds("OTEL_METRIC_EXPORT_INTERVAL") or _INTERVAL
        while not self._stop.wait(interval):
            self.export()

    def shutdown(self) -> None:
        """End the thread."""
        self._stop.set()

    def export(self) -> None:
        """Export what the series hold now, as the sum since the process started."""
        with self._exporting:
            try:
                metrics = self._metrics()
                if metrics:
                    scope = ScopeMetrics(self._scope, metrics, "")
                    self._exporter.export(
                        MetricsData([ResourceMetrics(self._resource, [scope], "")])
                    )
            except Exception as error:  # noqa: BLE001 - the next export may succeed
                _LOG.error("telemetry: metrics not exported: %s", type(error).__name__)  # noqa: TRY400

    def _metrics(self) -> list[SdkMetric]:
        now = time.time_ns()
        metrics = [
            *(_exported(one.metric, self._sum(one, now)) for one in self.counts),
            *(_exported(one.metric, self._histogram(one, now)) for one in self.spreads),
            *(_exported(metric, self._gauge(read, now)) for metric, read in self.gauges),
        ]
        return [one for one in metrics if one.data.data_points]

    def _sum(self, series: CountSeries, now: int) -> Sum:
        points = [
            NumberDataPoint(dict(key), self._started, now, value) for key, value in series.read()
        ]
        return Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)

    def _gauge(self, read: Gauge, now: int) -> SdkGauge:
        return SdkGauge([NumberDataPoint(dict(given), 0, now, value) for value, given in read()])

    def _histogram(self, series: SpreadSeries, now: int) -> Histogram:
        points = []
        for key, spread in series.read():
            counts = list(spread.counts)
            points.append(
                HistogramDataPoint(
                    attributes=dict(key),
                    start_time_unix_nano=self._started,
                    time_unix_nano=now,
                    count=sum(counts),
                    sum=spread.total,
                    bucket_counts=counts,
                    explicit_bounds=series.metric.bounds,
                    min=spread.least,
                    max=spread.most,
                )
            )
        return Histogram(points, AggregationTemporality.CUMULATIVE)


def _exported(metric: Metric, data: Sum | SdkGauge | Histogram) -> SdkMetric:
    return SdkMetric(metric.name, metric.description, metric.unit, data)


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
        session=_session(_timeout("TRACES_")),
        certificate_file=_trusted("TRACES_"),
        timeout=_timeout("TRACES_"),
    )


def _metric_exporter(protocol: str) -> MetricExporter:
    if protocol == GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
            OTLPMetricExporter as GrpcMetricExporter,
        )

        return GrpcMetricExporter(timeout=_timeout("METRICS_"))
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter(
        session=_session(_timeout("METRICS_")),
        certificate_file=_trusted("METRICS_"),
        timeout=_timeout("METRICS_"),
    )


def _session(seconds: float) -> requests.Session:
    """Return a session that reads no .netrc, follows no redirect, and reads an answer's beginning
    only, for at most these seconds: a collector must not fill the memory of its sender."""
    session = requests.Session()
    session.auth = lambda request: request
    session.max_redirects = 0
    session.hooks["response"] = [partial(_keep_beginning, seconds)]
    return session


def _keep_beginning(seconds: float, response: requests.Response, **_: object) -> requests.Response:
    ends, whole, found = time.monotonic() + seconds, response.raw, b""
    while len(found) < _LONGEST_ANSWER and time.monotonic() < ends:
        part = whole.read1(_LONGEST_ANSWER - len(found))
        if not part:
            break
        found += part
    else:
        whole.close()
    response.raw = io.BytesIO(found)
    return response


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
    return next(filter(None, map(_milliseconds, names)), _TIMEOUT)


def _milliseconds(name: str) -> float:
    """Return a variable's time in seconds; 0: it is not set, or no time."""
    text = os.environ.get(name, "")
    return int(text) / 1000 if text.isdecimal() else 0.0


class _Problems(logging.Handler):
    """Takes the SDK's own log: says now and then that data is lost, and remembers when.

    A message may quote what a collector answered, so only numbers of it are repeated.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.closed = False
        self._named: set[str] = set()
        self._seen = self._said = -_SAY_AGAIN_SECONDS
        library = logging.getLogger("opentelemetry")
        library.handlers[:] = [self]
        library.propagate = False

    def recent(self) -> bool:
        """Whether an export failed in the last minute."""
        return time.monotonic() - self._seen < _FAILING_SECONDS

    def emit(self, record: logging.LogRecord) -> None:
        """Note a failed export, data that was dropped, or a variable that the SDK cannot read."""
        if name := _READ_BY.get(record.name):
            if name not in self._named:
                self._named.add(name)
                _LOG.warning("telemetry: a part of %s cannot be read, and is ignored", name)
            return
        self._seen = now = time.monotonic()
        if self.closed or now - self._said < _SAY_AGAIN_SECONDS:
            return
        self._said = now
        args: Any = record.args if isinstance(record.args, tuple) else ()
        numbers = [one for one in args if type(one) is int and 100 <= one <= 599]
        answered = numbers and record.name.startswith(_EXPORTERS)
        status = f" (status {numbers[0]})" if answered else ""
        _LOG.warning(
            "telemetry: the collector did not take data%s; what it does not take is dropped",
            status,
        )
