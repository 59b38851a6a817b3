"""The time and the requests of a plan at 50 and 100 mounts.

    python benchmarks/plan.py [ROUNDS [SIZE...]]    # each twice the one before

Each mount has 5 roles, and each role 3 AppRole consumers. Each size has a server of its own, with
one engine process for all mounts (``--shared``), on which the manifest was applied. Measured is the
whole command ``skyflowctl plan``, whose plan is empty. Linear growth is 2x for twice the mounts.
"""

import sys
import tempfile
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

from _compare import (
    BIN,
    Ratio,
    command_ms,
    in_turns,
    judge,
    plain_environ,
    rounds_wanted,
    show_medians,
)
from support.bao import BaoServer, running_bao
from support.emulator import RunningEmulator, running_emulator
from support.gateways import target_of
from support.many import manifest_text
from support.plugin import register_skyflow

from skyflowctl.credentials.sources import ManifestSource
from skyflowctl.manifest.load import load_manifest
from skyflowctl.operations.plan import plan
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.http_transport import HttpTransport

SIZES = [int(one) for one in sys.argv[2:]] or [50, 100]
ROLES, CONSUMERS = 5, 3


class Site:
    """A server with one size applied: ``ms`` is the time of a plan."""

    def __init__(self, emulator: RunningEmulator, server: BaoServer, folder: Path, size: int):
        register_skyflow(
            server,
            args=["--shared", "--allow-host", emulator.host],
            env=[f"SSL_CERT_FILE={emulator.ca}"],
        )
        self._server, self._folder = server, folder
        named = {name: server.env()[name] for name in ("BAO_ADDR", "BAO_TOKEN", "BAO_CACERT")}
        self._environ = {**plain_environ(), **named, "HOME": str(folder)}
        self._environ["SKYFLOWCTL_ALLOW_HOSTS"] = emulator.host
        key = folder / "key.json"
        key.write_text(emulator.new_account(*(f"role-{number}" for number in range(ROLES))))
        key.chmod(0o600)
        (folder / "mounts.yaml").write_text(manifest_text(size, ROLES, CONSUMERS))
        self._run("apply", "-y", "-q")

    def ms(self) -> float:
        """Milliseconds of an empty plan."""
        return self._run("plan", "--detailed-exitcode", "-q")

    def requests(self) -> int:
        """The number of requests of that plan."""
        gateway = Gateway(HttpTransport(target_of(self._server), run_id="benchmark"))
        manifest = load_manifest([str(self._folder / "mounts.yaml")], environ={}).manifest
        plan(manifest, gateway, ManifestSource(manifest))
        gateway.close()
        return gateway.requests_made

    def _run(self, *args: str) -> float:
        return command_ms([str(BIN / "skyflowctl"), *args], self._environ, self._folder)


def main() -> int:
    """Measure in turns; return 1 when the growth is above the limit."""
    with ExitStack() as stack:
        emulator = stack.enter_context(running_emulator())
        sites = {
            f"{size} mounts": Site(
                emulator,
                stack.enter_context(running_bao()),
                Path(stack.enter_context(tempfile.TemporaryDirectory())),
                size,
            )
            for size in SIZES
        }
        for name, site in sites.items():
            print(f"{name}: {site.requests()} requests")
        found = in_turns({name: site.ms for name, site in sites.items()}, rounds_wanted(5))
    show_medians("ms", found)
    ratios = [
        Ratio(f"{more}, against {less}", found[more], found[less], at_most=2.2)
        for less, more in pairwise(found)
    ]
    return judge("skyflowctl plan, for twice the mounts", ratios)


if __name__ == "__main__":
    sys.exit(main())
