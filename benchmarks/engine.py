"""The engine on a real server: against the public Go plugin of the same job, and KV v2.

    SKYFLOWCTL_PEER_PLUGIN=PATH python benchmarks/engine.py [ROUNDS [roles|health|creds|reused]]

Server, token service and load are the same for both plugins, and each round measures both.
CPU is that of the plugin's and the server's process, per answer; the client's is shown apart.
Without the Go plugin's binary the limits against it are skipped. A refused read ends the run.
See ``_compare.py`` for what counts as missed.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from _compare import Ratio, in_turns, judge, rounds_wanted
from _engine_site import FAST, GO, KV, OURS, SLOW, EngineSite, Measured, engine_site, plugins

SECONDS = 0.6
SLOW_P99_MS = 460


@dataclass(frozen=True)
class Case:
    """One kind of read: its name, its path below the plugin's name, and how many clients."""

    name: str
    path: str
    clients: int


def _chosen(*cases: Case) -> list[Case]:
    """Of these cases the ones that were asked for; all without a second argument."""
    part = sys.argv[2] if len(sys.argv) > 2 else ""
    return [one for one in cases if part in one.name]


READS = _chosen(
    *(Case(f"roles, {n} clients", f"{FAST}/roles/reader", n) for n in (8, 64)),
    Case("health, 64 clients", f"{FAST}/health", 64),
)
CREDS = _chosen(*(Case(f"creds, {n} clients", f"{FAST}/creds/reader", n) for n in (1, 8, 64, 256)))
SLOW_CREDS = _chosen(Case("creds, 64 clients, 100 ms", f"{SLOW}/creds/reader", 64))
REUSED = _chosen(*(Case(f"reused, {n} clients", f"{FAST}/creds/reused", n) for n in (8, 64)))
FLOOR = [Case(f"KV v2, {n} clients", "data/x", n) for n in (1, 8, 64)]

Key = tuple[str, Case]
Found = dict[Key, list[Measured]]


def cases() -> list[Key]:
    """What is measured in a round: (plugin, case)."""
    both = [(plugin, case) for case in (*READS, *CREDS, *SLOW_CREDS) for plugin in plugins()]
    return [*both, *((OURS, case) for case in REUSED), *((KV, case) for case in FLOOR)]


def measure(site: EngineSite, rounds: int) -> Found:
    work: dict[Key, Callable[[], Measured]] = {
        (who, case): partial(site.measure, f"{who}/{case.path}", case.clients, SECONDS)
        for who, case in cases()
    }
    return in_turns(work, rounds)


def show(found: Found) -> None:
    """Print the medians of every case."""
    rounds = len(next(iter(found.values())))
    print(f"median of {rounds} rounds in turns; CPU in ms an answer, times in ms")
    print(f"  {'':<36} per s  plugin  server  client    p50    p95    p99")
    for (who, case), measured in found.items():
        figures = [
            (one.load.rate, one.plugin_ms, one.server_ms, one.client_ms, *one.times)
            for one in measured
        ]
        rate, plugin, server, client, *times = (
            sorted(column)[len(column) // 2] for column in zip(*figures, strict=True)
        )
        cpu = f"{plugin:>7.2f} {server:>7.2f} {client:>7.2f}"
        latencies = " ".join(f"{one:>6.1f}" for one in times)
        print(f"  {who:<8} {case.name:<27} {rate:>5.0f} {cpu} {latencies}")


def against_peer(found: Found) -> list[Ratio]:
    """The ratios to the Go plugin; those of tokens for CPU are ours over its."""

    def of(who: str, case: Case, name: str) -> Sequence[float]:
        return [getattr(one, name) for one in found[who, case]]

    def ratio(case: Case, figure: str, what: str, **limit: float) -> Ratio:
        return Ratio(f"{case.name}: {what}", of(OURS, case, figure), of(GO, case, figure), **limit)

    def p99(case: Case, **limit: float) -> Ratio:
        ours, peer = ([one.load.p99 for one in found[who, case]] for who in (OURS, GO))
        return Ratio(f"{case.name}: p99", ours, peer, **limit)

    reads = [ratio(one, "plugin_ms", "plugin CPU", at_most=0.9) for one in READS]
    busy = [case for case in CREDS if case.clients in {8, 64}]
    others = [case for case in CREDS if case not in busy]
    return [
        *reads,
        *(ratio(one, "plugin_ms", "plugin CPU", at_most=0.5) for one in busy),
        *(ratio(one, "per_cpu_second", "tokens/CPU s", at_least=1.8) for one in busy),
        *(ratio(one, "plugin_ms", "plugin CPU") for one in others),
        *(ratio(one, "per_cpu_second", "tokens/CPU s") for one in others),
        *(p99(one, at_most=1) for one in CREDS),
        *(p99(one) for one in SLOW_CREDS),
    ]


def against_floor(found: Found) -> list[Ratio]:
    """Our reads against KV v2's with as many clients: rates, and answers for CPU."""
    floors = {case.clients: found[KV, case] for case in FLOOR}

    def pair(case: Case) -> tuple[list[Measured], list[Measured]]:
        return found[OURS, case], floors[case.clients]

    def rate(case: Case, **limit: float) -> Ratio:
        ours, kv = ([one.load.rate for one in of] for of in pair(case))
        return Ratio(f"{case.name}: rate", ours, kv, **limit)

    def per_cpu(case: Case) -> Ratio:
        ours, kv = ([one.per_cpu_second for one in of] for of in pair(case))
        return Ratio(f"{case.name}: answers/CPU s", ours, kv)

    return [
        *(rate(one, at_least=0.6) for one in REUSED),
        *(per_cpu(one) for one in REUSED),
        *(rate(one) for one in (*READS, *CREDS) if one.clients in floors),
    ]


def slow_p99(found: Found, case: Case) -> Ratio:
    """The p99 with a slow token service, against the limit."""
    times = [one.load.p99 for one in found[OURS, case]]
    limit = [float(SLOW_P99_MS)] * len(times)
    return Ratio(f"{case.name}: p99 / {SLOW_P99_MS} ms", times, limit, at_most=1)


def main() -> int:
    with engine_site() as site:
        found = measure(site, rounds_wanted(6))
    show(found)
    failed = judge("skyflowctl's engine / KV v2", against_floor(found))
    failed |= judge("a token service of 100 ms", [slow_p99(found, one) for one in SLOW_CREDS])
    if GO not in plugins():
        print("the Go plugin: skipped, SKYFLOWCTL_PEER_PLUGIN does not name its binary")
        return failed
    return failed | judge("skyflowctl's engine / the Go plugin", against_peer(found))


if __name__ == "__main__":
    sys.exit(main())
