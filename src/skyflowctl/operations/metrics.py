"""``metrics``: the state of every mount in Prometheus's text format."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest, start_http_server, write_to_textfile
from prometheus_client.registry import Collector, CollectorRegistry

from skyflowctl.clock import parse_rfc3339
from skyflowctl.errors import SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.operations.status import MountStatus, StatusResult
from skyflowctl.planner.plan import DriftKind

_MOUNT = ("mount", "path")
# Several servers of Prometheus may scrape at once: they get one reading of the server.
_KEPT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What the metrics of one moment are made of.

    Args:
        status: every mount; None: the server could not be read.
        node: the address that answered.
        drift: the number of differences by kind, without those of 0; None: the plan was not
            asked for, or could not be made.
        changes: the number of actions that apply would take; None as for ``drift``.
        seconds: how long the reading took; None: not known.
        unknown: paths of named mounts that neither the manifest nor the server has.
    """

    status: StatusResult | None
    node: str = ""
    drift: Mapping[str, int] | None = None
    changes: int | None = None
    seconds: float | None = None
    unknown: tuple[str, ...] = ()


def metric_families(reading: Reading) -> list[GaugeMetricFamily]:
    """Return the metrics of a reading; what could not be read has no sample."""
    up = GaugeMetricFamily("skyflow_up", "Whether the server could be read: 1 or 0.")
    up.add_metric((), float(reading.status is not None))
    took = GaugeMetricFamily("skyflow_read_duration_seconds", "How long reading the server took.")
    if reading.seconds is not None:
        took.add_metric((), reading.seconds)
    found = [up, took]
    if reading.status is not None:
        found += _of_mounts(reading.status.mounts, reading.node)
    if reading.drift is not None:
        drift = GaugeMetricFamily(
            "skyflow_drift", "Differences that apply does not mend.", labels=("kind",)
        )
        for kind in sorted(DriftKind):
            drift.add_metric((kind.value,), reading.drift.get(kind.value, 0))
        found.append(drift)
    if reading.changes is not None:
        changes = GaugeMetricFamily("skyflow_pending_changes", "Actions that apply would take.")
        changes.add_metric((), reading.changes)
        found.append(changes)
    return found


def _of_mounts(mounts: Iterable[MountStatus], node: str) -> list[GaugeMetricFamily]:
    """Return the metrics that have the labels mount and path."""

    def family(name: str, text: str, *more: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, text, labels=(*_MOUNT, *more))

    health = family(
        "skyflow_mount_health", "1 for the mount's state; the state ok has 0 otherwise.", "state"
    )
    engine = family("skyflow_engine_info", "The engine that runs.", "version", "node")
    roles = family("skyflow_roles", "The number of roles.")
    revoked = family("skyflow_mount_revoked", "Whether the mount is cut off: 1 or 0.")
    age = family("skyflow_credential_age_seconds", "Since the live credential was written.")
    expiry = family(
        "skyflow_credential_expiry_timestamp_seconds", "When the live key ends, if it ends."
    )
    due = family("skyflow_rotation_due", "Whether the manifest's rule says so: 1 or 0.")
    for one in mounts:
        named = (one.name, one.path)
        health.add_metric((*named, "ok"), float(one.health == "ok"))
        if one.health != "ok":
            health.add_metric((*named, one.health), 1)
        if one.engine_version:
            engine.add_metric((*named, one.engine_version, node), 1)
        if one.problem is not None or one.api is None:
            continue
        roles.add_metric(named, len(one.roles))
        revoked.add_metric(named, float(one.revoked is not None))
        if (key := one.credential) is None:
            continue
        due.add_metric(named, float(key.due))
        if key.age_seconds is not None:
            age.add_metric(named, key.age_seconds)
        if key.expires_at:
            expiry.add_metric(named, parse_rfc3339(key.expires_at).timestamp())
    return [health, engine, roles, revoked, age, expiry, due]


def metrics_json(reading: Reading) -> list[dict[str, Any]]:
    """Return the metrics of a reading, each with its samples."""
    return [
        {
            "name": family.name,
            "help": family.documentation,
            "samples": [{"labels": dict(one.labels), "value": one.value} for one in family.samples],
        }
        for family in metric_families(reading)
    ]


def metrics_text(metrics: Iterable[Mapping[str, Any]]) -> str:
    """Return metrics of :func:`metrics_json` in Prometheus's text format."""
    families = []
    for one in metrics:
        family = GaugeMetricFamily(one["name"], one["help"])
        for sample in one["samples"]:
            family.add_sample(one["name"], sample["labels"], sample["value"])
        families.append(family)
    return generate_latest(_registry(lambda: families)).decode()


def write_metrics(reading: Reading, path: str) -> None:
    """Write a reading to a file, in one step; others may read it, as node_exporter must.

    Raises:
        OSError: it cannot be written.
    """
    write_to_textfile(path, _registry(lambda: metric_families(reading)))


def serve_metrics(
    read: Callable[[], Reading], host: str, port: int
) -> tuple[int, Callable[[], None]]:
    """Serve readings over HTTP in the background; return the port, and a function that ends it.

    Args:
        read: called once for a scrape; raises nothing.
        host: the address to listen at.
        port: 0: a free one.

    Raises:
        OSError: the address cannot be used.
    """
    server, thread = start_http_server(port, host, _registry(lambda: metric_families(read())))

    def end() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    return int(server.server_address[1]), end


def _registry(families: Callable[[], Iterable[Metric]]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return registry


class _Families(Collector):
    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()


@dataclass(slots=True)
class KeptReading:
    """One reading for all scrapes of the same moment. Safe for threads.

    Args:
        read: reads the server; raises ``SkyflowctlError``.
        tell: shows one line to a person.
        monotonic: the clock, in seconds.
    """

    read: Callable[[], Reading]
    tell: Callable[[str], None] = lambda _text: None
    monotonic: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: Reading | None = None
    _at: float = 0.0

    def newest(self) -> Reading:
        """Return a reading of at most 5 s ago; a server that cannot be read is one, too."""
        with self._lock:
            if self._last is None or self.monotonic() - self._at > _KEPT_SECONDS:
                self._last = self._now()
                self._at = self.monotonic()
            return self._last

    def _now(self) -> Reading:
        started = self.monotonic()
        try:
            return self.read()
        except SkyflowctlError as error:
            problem = error.problems[0]
            self.tell(f"nothing was read: {problem.summary} ({problem.why})")
            return Reading(None, seconds=self.monotonic() - started)
