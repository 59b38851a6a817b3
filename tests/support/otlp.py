"""A receiver of OTLP over HTTP, made of the published protocol definitions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from gzip import decompress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes as a dict of plain values."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@dataclass(frozen=True)
class ReceivedSpan:
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One series of a metric at one export: a number, or a histogram's count and sum."""

    metric: str
    unit: str
    attributes: dict[str, Any]
    value: float
    count: int = 0
    bounds: tuple[float, ...] = ()
    resource: dict[str, Any] = field(default_factory=dict)


@dataclass
class OtlpReceiver:
    """What arrived; ``answer`` is the status that every export gets."""

    url: str = ""
    answer: int = 200
    spans: list[ReceivedSpan] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def wait_for(self, found: Callable[[OtlpReceiver], Any], seconds: float = 20) -> Any:
        """The first true result of ``found``; fails if it stays false."""
        deadline = time.monotonic() + seconds
        while not (result := found(self)):
            assert time.monotonic() < deadline, ([one.name for one in self.spans], self.points)
            time.sleep(0.02)
        return result

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans of this name."""
        return [one for one in list(self.spans) if one.name == name]

    def last(self, metric: str) -> list[Point]:
        """The newest point of each series of a metric."""
        found: dict[Any, Point] = {}
        for one in list(self.points):
            if one.metric == metric:
                found[tuple(sorted(one.attributes.items()))] = one
        return list(found.values())

    def take(self, path: str, body: bytes) -> None:
        """Keep the content of one export."""
        self.bodies.append(body)
        if path.endswith("/v1/traces"):
            self.spans += _spans(ExportTraceServiceRequest.FromString(body))
        else:
            self.points += _points(ExportMetricsServiceRequest.FromString(body))


def _spans(request: Any) -> Iterator[ReceivedSpan]:
    for group in request.resource_spans:
        for scope in group.scope_spans:
            for one in scope.spans:
                yield ReceivedSpan(
                    one.name,
                    one.kind,
                    one.trace_id.hex(),
                    one.span_id.hex(),
                    one.parent_span_id.hex(),
                    one.start_time_unix_nano,
                    one.end_time_unix_nano,
                    one.status.code == 2,
                    plain(one.attributes),
                    plain(group.resource.attributes),
                )


def _points(request: Any) -> Iterator[Point]:
    for group in request.resource_metrics:
        resource = plain(group.resource.attributes)
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                for one in getattr(metric, kind).data_points:
                    value = one.sum if kind == "histogram" else one.as_int or one.as_double
                    counted = (one.count, tuple(one.explicit_bounds)) if kind == "histogram" else ()
                    attributes = plain(one.attributes)
                    yield Point(
                        metric.name, metric.unit, attributes, value, *counted, resource=resource
                    )


@contextmanager
def otlp_receiver(answer: int = 200) -> Iterator[OtlpReceiver]:
    """A receiver on a free port of the loopback."""
    receiver = OtlpReceiver(answer=answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = decompress(body)
            receiver.headers.append({name.lower(): text for name, text in self.headers.items()})
            receiver.take(self.path, body)
            self.send_response(receiver.answer)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def grpc_receiver() -> Iterator[OtlpReceiver]:
    """A receiver over gRPC, on a free port of the loopback."""
    import grpc
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceResponse,
    )
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    receiver = OtlpReceiver()

    class Traces(traces.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            receiver.take("/v1/traces", request.SerializeToString())
            return ExportTraceServiceResponse()

    class Metrics(metrics.MetricsServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            receiver.take("/v1/metrics", request.SerializeToString())
            return ExportMetricsServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    traces.add_TraceServiceServicer_to_server(Traces(), server)
    metrics.add_MetricsServiceServicer_to_server(Metrics(), server)
    receiver.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(0).wait(5)
