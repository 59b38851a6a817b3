"""Reads through the engine against KV v2 reads on the same server: the ratio of their rates.

    python benchmarks/engine_reads.py [ROUNDS]

A dev stack of its own is started and ended (TLS, audit file, in-memory storage). The client is
``http.client`` with one kept connection a thread: 1, 4 and 8 threads. It runs on the same
cores as server and plugin and takes up to 0.4 of a core itself. KV v2 is Go inside of the
server; the engine is Python behind two gRPC calls a request. There is no limit to miss.
"""

import http.client
import json
import ssl
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from _compare import Ratio, in_turns, judge, rounds_wanted, show_medians
from support.stack import running_stack

KV = "KV v2 read"
PATHS = {
    KV: "kv-bench/data/x",
    "engine roles read": "skyflow/order/roles/order-producer",
    "engine health read": "skyflow/order/health",
    "engine creds read": "skyflow/order/creds/order-producer?ctx=order:ORD-42",
}
THREADS = (1, 4, 8)
SECONDS = 0.4


@dataclass(frozen=True)
class Server:
    """Where the server is, and the login."""

    address: str
    token: str
    tls: ssl.SSLContext

    def connect(self) -> http.client.HTTPSConnection:
        where = urlsplit(self.address)
        return http.client.HTTPSConnection(
            where.hostname or "", where.port, context=self.tls, timeout=30
        )

    def call(
        self, line: http.client.HTTPSConnection, method: str, path: str, body: object = None
    ) -> None:
        """One request on a kept connection, which must be granted."""
        raw = None if body is None else json.dumps(body)
        line.request(method, f"/v1/{path}", body=raw, headers={"X-Vault-Token": self.token})
        reply = line.getresponse()
        text = reply.read()
        if reply.status not in {200, 204}:
            raise SystemExit(f"{path}: {reply.status} {text.decode()}")


def rate(server: Server, path: str, threads: int) -> float:
    """Requests a second of so many threads together."""
    counts: list[int] = []
    stop = threading.Event()
    gate = threading.Barrier(threads + 1)

    def work() -> None:
        line, count = server.connect(), 0
        try:
            server.call(line, "GET", path)
            gate.wait()
            while not stop.is_set():
                server.call(line, "GET", path)
                count += 1
        finally:
            counts.append(count)
            line.close()

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    gate.wait(30)
    started = time.perf_counter()
    time.sleep(SECONDS)
    stop.set()
    for worker in workers:
        worker.join(30)
    return sum(counts) / (time.perf_counter() - started)


def prepare(server: Server) -> None:
    line = server.connect()
    body = {"type": "kv", "options": {"version": "2"}}
    server.call(line, "POST", "sys/mounts/kv-bench", body)
    # A new KV v2 mount answers 400 until it has written its own metadata.
    deadline = time.monotonic() + 10
    while True:
        try:
            server.call(line, "POST", "kv-bench/data/x", {"data": {"value": "x" * 64}})
            break
        except SystemExit:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    line.close()


def measure(rounds: int) -> dict[tuple[str, int], list[float]]:
    with running_stack(apply=True) as stack:
        tls = ssl.create_default_context(cafile=stack.exports["BAO_CACERT"])
        server = Server(stack.exports["BAO_ADDR"], stack.exports["BAO_TOKEN"], tls)
        prepare(server)
        cases = {
            (name, threads): partial(rate, server, path, threads)
            for threads in THREADS
            for name, path in PATHS.items()
        }
        return in_turns(cases, rounds)


def main() -> int:
    found = measure(rounds_wanted(9))
    named = {f"{name}, {threads} at once": values for (name, threads), values in found.items()}
    show_medians("requests a second", named)
    ratios = [
        Ratio(f"{name}, {threads} at once", values, found[KV, threads])
        for (name, threads), values in found.items()
        if name != KV
    ]
    return judge(f"engine / {KV} (no limit)", ratios)


if __name__ == "__main__":
    sys.exit(main())
