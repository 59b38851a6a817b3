"""``skyflowctl metrics``: every mount's state, for Prometheus."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from skyflowctl.cli.command import command
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.context.planning import PlanRequest, plan_live
from skyflowctl.cli.envelope import CommandResult, status_of
from skyflowctl.cli.options import (
    AllowHostOption,
    FileOption,
    MountsArgument,
    OutputOptions,
    ParallelismOption,
    ReferenceOptions,
    TargetOptions,
    option,
    span_seconds,
)
from skyflowctl.cli.output_files import check_output_file, writing_output_file
from skyflowctl.cli.plan_options import PermitOptions
from skyflowctl.cli.runner import STOPS, CommandRun, run_command, stop_code
from skyflowctl.errors import ExitCode, SkyflowctlError, UsageError, os_reason
from skyflowctl.frozen import dataclass

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Manifest
    from skyflowctl.operations.metrics import Reading
    from skyflowctl.operations.status import StatusResult
    from skyflowctl.vault.gateway import Gateway
    from skyflowctl.vault.live import LiveState

_HIGHEST_PORT = 65_535
_WHAT, _OPENING = "the metrics", b"# HELP skyflow_"


@command(
    examples=[
        ("skyflowctl metrics", "print them once"),
        ("skyflowctl metrics --textfile skyflow.prom", "for node_exporter, from cron or a timer"),
        ("skyflowctl metrics --serve 127.0.0.1:9464", "serve them at /metrics until stopped"),
        ("skyflowctl metrics --drift", "with the drift from the manifest"),
    ],
    exits=[
        ExitCode.PARTIAL,
        ExitCode.NOT_PERMITTED,
        ExitCode.REFUSED,
        ExitCode.INVALID,
        ExitCode.UNREACHABLE,
        ExitCode.INTERRUPTED,
        ExitCode.TERMINATED,
    ],
)
def metrics(
    target: TargetOptions,
    references: ReferenceOptions,
    output: OutputOptions,
    *,
    mounts: MountsArgument = None,
    file: FileOption = None,
    textfile: Annotated[
        str | None,
        option("--textfile", help="Write them to this file, in one step.", metavar="PATH"),
    ] = None,
    serve: Annotated[
        str | None,
        option("--serve", help="Serve them at this address.", metavar="HOST:PORT"),
    ] = None,
    drift: Annotated[
        bool, option("--drift", help="Also plan, and count drift and pending changes.")
    ] = False,
    parallelism: ParallelismOption = 10,
    allow_host: AllowHostOption = None,
) -> None:
    """Print, write or serve every mount's health, engine, roles, cut-off, and the age, end and due
    date of its key. Health is the engine's answer of the last 30 s, so frequent scrapes do not mint
    more often. If the server cannot be read, skyflow_up is 0: in the file, before this exits with
    the error's code, and at the address. A mount that cannot be read has no samples but its
    health. A named mount that neither manifest nor server has is exit 64."""

    def work(run: CommandRun) -> CommandResult:
        if textfile is not None and serve is not None:
            raise UsageError(
                "--textfile and --serve exclude each other",
                why="one writes once, the other answers until it is stopped",
                fix="leave one of them out",
            )
        if serve is not None and "-" in manifests.manifest_files(file):
            raise UsageError(
                "-f - and --serve exclude each other",
                why="the manifest is read again for every scrape, and standard input only once",
                fix="give the manifest as a file",
            )
        if textfile is not None:
            check_output_file(Path(textfile), _WHAT, lambda text: text.startswith(_OPENING))
        scrape = _Scrape(run, mounts, file, references, allow_host, parallelism, drift)
        read = gateways.reconnecting(target, run, scrape.read, again=serve is not None)
        if serve is not None:
            return _serve(read, serve, run)
        return _once(read, textfile)

    run_command("metrics", output, work, _view)


@dataclass(frozen=True, slots=True)
class _Scrape:
    """What one reading of the server asks for."""

    run: CommandRun
    mounts: Sequence[str] | None
    file: Sequence[str] | None
    references: ReferenceOptions
    allow_host: Sequence[str] | None
    parallelism: int
    drift: bool

    def read(self, gateway: "Gateway") -> "Reading":
        from skyflowctl.operations.health import DEADLINE
        from skyflowctl.operations.metrics import Reading
        from skyflowctl.operations.status import status

        started = time.monotonic()
        chosen = manifests.choose_mounts(self.mounts, self.file, self.run)
        found = status(
            gateway,
            chosen.mounts,
            clock=self.run.clock,
            plugin_name=chosen.plugin_name,
            prefix=chosen.prefix,
            parallelism=self.parallelism,
            deadline=span_seconds(DEADLINE, "--deadline"),
            refresh=False,
        )
        drift, changes = self._plan(gateway, found.live) if self.drift else (None, None)
        node = gateway.transport.server.address
        seconds = time.monotonic() - started
        return Reading(found, node, drift, changes, seconds, self._unknown(found, chosen.manifest))

    def _unknown(self, found: "StatusResult", manifest: "Manifest | None") -> tuple[str, ...]:
        """Return the named mounts that neither the manifest nor the server has."""
        declared = {one.path for one in manifest.mounts} if manifest else set()
        absent = {one.path for one in found.mounts if one.health == "not_mounted"}
        return tuple(sorted(absent - declared)) if self.mounts else ()

    def _plan(
        self, gateway: "Gateway", live: "LiveState | None"
    ) -> tuple[dict[str, int] | None, int | None]:
        """Return the drift by kind, and the number of actions; None if not all could be read."""
        loaded = manifests.load_named_manifest(self.file, self.run)
        request = PlanRequest(
            self.file,
            self.mounts,
            PermitOptions(),
            self.references,
            self.allow_host,
            self.parallelism,
        )
        made = plan_live(request, loaded, gateway, self.run, live).result.plan
        if made.unreadable:
            self.run.notice(f"drift is not counted: {made.unreadable[0].summary}")
            return None, None
        return dict(Counter(one.kind.value for one in made.drift)), len(made.actions)


def _once(read: "Callable[[], Reading]", textfile: str | None) -> CommandResult:
    from skyflowctl.operations.metrics import Reading, metrics_json, write_metrics

    def write(reading: Reading) -> None:
        if textfile is not None:
            with writing_output_file(Path(textfile), _WHAT):
                write_metrics(reading, textfile)

    try:
        reading = read()
    except SkyflowctlError:
        write(Reading(None))
        raise
    write(reading)
    if reading.unknown:
        raise UsageError(
            f"there is no mount {', '.join(reading.unknown)}",
            why="neither the manifest nor the server has it",
            fix="'skyflowctl mount list' shows the server's mounts",
            code="unknown-mount",
        )
    found = reading.status
    assert found is not None
    code = ExitCode.OK
    if found.unread:
        code = ExitCode.NOT_PERMITTED if found.forbidden else ExitCode.PARTIAL
    data = {
        "metrics": metrics_json(reading),
        "textfile": str(Path(textfile).absolute()) if textfile else "",
        "address": "",
    }
    return CommandResult(data, status_of(code) if code else "ok", code, found.unread)


def _serve(read: "Callable[[], Reading]", where: str, run: CommandRun) -> CommandResult:
    """Answer scrapes until SIGINT or SIGTERM."""
    from skyflowctl.operations.metrics import KeptReading, serve_metrics

    host, port = _host_and_port(where)
    kept = KeptReading(read, run.notice)
    try:
        port, end = serve_metrics(kept.newest, host, port)
    except OSError as error:
        raise UsageError(
            f"the metrics cannot be served at {where}",
            why=os_reason(error),
            fix="choose another port, or an address of this machine",
            code="unusable-address",
        ) from None
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    run.notice(f"serving http://{shown}/metrics")
    data = {"metrics": [], "textfile": "", "address": shown}
    code = ExitCode.OK
    try:
        threading.Event().wait()
    except STOPS as stop:
        code = stop_code(stop)
    finally:
        end()
    return CommandResult(data, exit_code=code)


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > _HIGHEST_PORT:
        raise UsageError(
            f"{text} is not an address to serve at",
            why="it is not HOST:PORT",
            fix="for example --serve 127.0.0.1:9464",
        )
    return host, int(port)


def _view(result: CommandResult, terminal: Terminal) -> None:
    from skyflowctl.operations.metrics import metrics_text

    if result.data["textfile"]:
        terminal.note(f"wrote {result.data['textfile']}")
    elif not result.data["address"]:
        for line in metrics_text(result.data["metrics"]).splitlines():
            terminal.line(line)
