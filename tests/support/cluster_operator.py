"""Runs skyflowctl against a cluster as an operator does: as a process, every node named."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.cluster import ServerCluster, ServerNode, wait_until
from support.stack import BIN, clean_environ


@dataclass
class ClusterOperator:
    """Runs skyflowctl with every node of a cluster named."""

    cluster: ServerCluster
    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def running(
        self, first: ServerNode, *args: str, alone: bool = False
    ) -> Iterator[subprocess.Popen[str]]:
        """Run a command whose first address is this node's, at most until the block ends.

        ``alone``: no other node is named.
        """
        others = [one.address for one in self.cluster.nodes if one is not first and not alone]
        environ = clean_environ() | {
            "HOME": str(self.folder),
            "BAO_ADDR": first.address,
            "BAO_TOKEN": self.cluster.token,
            "BAO_CACERT": str(self.cluster.ca),
            "SKYFLOWCTL_NODES": ",".join(others),
            **self.environ,
        }
        with subprocess.Popen(
            [os.fspath(BIN / "skyflowctl"), *args, "-o", "json"],
            env=environ,
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, first: ServerNode, *args: str, code: int = 0) -> dict[str, Any]:
        """Run a command to its end; see :meth:`done`."""
        with self.running(first, *args) as process:
            return self.done(process, code)

    def done(self, running: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
        """The data of a command, which ends with this code."""
        out, err = running.communicate(timeout=200)
        assert running.returncode == code, (running.returncode, out[-3000:], err[-3000:])
        return json.loads(out)["data"]

    def wait_for(self, process: subprocess.Popen[str], name: str, policies: int) -> None:
        """Wait until a running apply has written so many policies of a manifest."""

        def written() -> bool:
            assert process.poll() is None, ("it is over already", process.communicate())
            try:
                listed = self.cluster.call(self.cluster.leader(), "LIST", "sys/policies/acl")[1]
            except OSError:
                return False
            names = listed.get("data", {}).get("keys", [])
            return sum(one.startswith(f"{name}-") for one in names) >= policies

        wait_until(written, f"no {policies} policies are written", 90, 0.05)
