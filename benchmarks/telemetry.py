"""The engine with telemetry against the engine without, on one server.

    python benchmarks/telemetry.py [ROUNDS]

Three plugins of the same launcher differ only in their environment: off, parent-based sampling of
a tenth, and every request sampled. The receiver takes everything in a process of its own that no
figure counts. Each round measures the three in turns: answers a second, and answers for a CPU
second of plugin and server. See ``_compare.py`` for what counts as missed.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from _compare import Ratio, in_turns, judge, rounds_wanted
from _engine_site import EngineSite, Measured
from support.bao import running_bao
from support.fixed_tokens import FixedTokens, fixed_tokens
from support.loaded import Held, log_in, mount
from support.plugin import build_from, copy_source, processes_of, register

SECONDS, CLIENTS = 1.0, 8
OFF, TENTH, EVERY = "off", "tenth", "every"
_RECEIVER = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def receiver() -> Iterator[str]:
    """A receiver in a process of its own; its URL."""
    process = subprocess.Popen([sys.executable, "-c", _RECEIVER], stdout=subprocess.PIPE)
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def environments(url: str) -> dict[str, list[str]]:
    """The environment of each of the three plugins."""
    sampled = [f"OTEL_EXPORTER_OTLP_ENDPOINT={url}"]
    tenth = ["OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.1"]
    return {OFF: [], TENTH: [*sampled, *tenth], EVERY: sampled}


@contextlib.contextmanager
def telemetry_site(tokens: FixedTokens, url: str) -> Iterator[EngineSite]:
    """A server with a mount of each of the three."""
    with running_bao() as server:
        source = copy_source(server.folder)
        hosts = ["--allow-host", *tokens.hosts]
        for name, env in environments(url).items():
            sha256 = build_from(source, server.plugin_dir, name)
            register(server, name, sha256, args=hosts, env=[f"SSL_CERT_FILE={tokens.ca}", *env])
            mount(server, f"{name}/fast", tokens.credentials(), name)
        yield EngineSite(server, log_in(server))


def show(site: EngineSite, found: dict[str, list[Measured]]) -> None:
    """Print the medians, and what each process holds."""
    print(f"median of {len(found[OFF])} rounds in turns, {CLIENTS} clients; CPU in ms an answer")
    print("         per s  plugin  server    p50    p99     MB  threads")
    for name, measured in found.items():
        columns = [
            (one.load.rate, one.plugin_ms, one.server_ms, one.load.p50, one.load.p99)
            for one in measured
        ]
        rate, plugin, server, p50, p99 = (
            sorted(column)[len(column) // 2] for column in zip(*columns, strict=True)
        )
        held = Held.of(processes_of(site.server, name)[0].pid)
        cpu = f"{plugin:>7.3f} {server:>7.3f} {p50:>6.1f} {p99:>6.1f}"
        print(f"  {name:<6} {rate:>5.0f} {cpu} {held.memory:>6.1f} {held.threads:>8}")


def ratios(found: dict[str, list[Measured]]) -> list[Ratio]:
    """Each of the two that send, against the one that does not."""

    def figures(name: str, figure: str) -> list[float]:
        of = {"rate": lambda one: one.load.rate, "cpu": lambda one: one.per_cpu_second}[figure]
        return [of(one) for one in found[name]]

    return [
        Ratio(f"{name}: {text}", figures(name, figure), figures(OFF, figure), at_least=limit)
        for name, limit in ((TENTH, 0.9), (EVERY, 0.75))
        for figure, text in (("rate", "answers/s"), ("cpu", "answers/CPU s"))
    ]


def main() -> int:
    with (
        fixed_tokens() as tokens,
        receiver() as url,
        telemetry_site(tokens, url) as site,
    ):
        work = {
            name: partial(site.measure, f"{name}/fast/creds/reader", CLIENTS, SECONDS)
            for name in environments(url)
        }
        found = in_turns(work, rounds_wanted(15))
        show(site, found)
    return judge("with telemetry / without", ratios(found))


if __name__ == "__main__":
    sys.exit(main())
