"""A real OpenTelemetry collector as a process, and what its debug exporter printed."""

from __future__ import annotations

import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.bao import free_port_pair
from support.tied import die_with_parent

_CONFIG = """
receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{http}"}}
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
exporters:
  debug: {{verbosity: detailed, use_internal_logger: false}}
  prometheus: {{endpoint: "127.0.0.1:{prometheus}"}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
    metrics: {{receivers: [otlp], exporters: [debug, prometheus]}}
"""


@dataclass(frozen=True)
class PrintedSpan:
    service: str
    trace_id: str
    parent_id: str
    span_id: str
    name: str
    text: str


@dataclass(frozen=True)
class Collector:
    """Where it listens, by protocol as ``OTEL_EXPORTER_OTLP_PROTOCOL`` names it, and where
    Prometheus reads it."""

    urls: dict[str, str]
    output: Path
    prometheus: str

    def scraped(self) -> dict[str, set[str]]:
        """What Prometheus reads: the labels of each series, by its name."""
        with urllib.request.urlopen(self.prometheus, timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        found: dict[str, set[str]] = {}
        for line in lines:
            if line and not line.startswith("#"):
                name, _, labels = line.partition("{")
                found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
        return found

    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text()

    def spans(self) -> list[PrintedSpan]:
        """The spans that it has received so far."""
        found = []
        for exported in self.text().split("ResourceSpans #")[1:]:
            group = exported.partition("ResourceMetrics #")[0]
            (service,) = re.findall(r"-> service\.name: Str\((.*)\)", group)
            for text in re.split(r"\nSpan #\d+\n", group)[1:]:
                fields = [_field(text, name) for name in ("Trace ID", "Parent ID", "ID", "Name")]
                found.append(PrintedSpan(service, *fields, text))
        return found

    def metrics(self) -> dict[str, tuple[str, str]]:
        """The unit and the kind of each metric of the engine that it has received, by name."""
        pattern = r"-> Name: (skyflow\.\S+)\n.*\n +-> Unit: (.*)\n +-> DataType: (\w+)"
        return {name: (unit, kind) for name, unit, kind in re.findall(pattern, self.text())}

    def wait_for(self, found: Callable[[Collector], Any], seconds: float = 30) -> Any:
        """The first true result of ``found``; fails if it stays false."""
        deadline = time.monotonic() + seconds
        while not (result := found(self)):
            assert time.monotonic() < deadline, self.text()[-5000:]
            time.sleep(0.1)
        return result


def _field(text: str, name: str) -> str:
    found = re.search(rf"^    {name} *:(.*)$", text, re.MULTILINE)
    assert found, text
    return found[1].strip()


@contextmanager
def running_collector(program: Path, folder: Path) -> Iterator[Collector]:
    """Run a collector on free ports of the loopback."""
    http, prometheus = free_port_pair(), free_port_pair()
    config, output, log = folder / "config.yaml", folder / "output", folder / "log"
    config.write_text(_CONFIG.format(http=http, grpc=http + 1, prometheus=prometheus))
    with output.open("w") as out, log.open("w") as errors:
        process = subprocess.Popen(
            [program, "--config", config],
            stdout=out,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
    ports = {"http/protobuf": http, "grpc": http + 1}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    collector = Collector(urls, output, f"http://127.0.0.1:{prometheus}/metrics")
    try:
        collector.wait_for(lambda _: "Everything is ready" in log.read_text())
        yield collector
    finally:
        process.terminate()
        process.wait(20)
