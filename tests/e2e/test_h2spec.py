"""h2spec, the conformance tests of HTTP/2, against our connection on a port without TLS."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest
from support.go_modules import build_h2spec
from support.h2spec_server import PlainServer

pytestmark = [pytest.mark.slow, pytest.mark.needs("go"), pytest.mark.timeout(600)]

CASES = 146
# A case that fails stands here by its section and name, with the reason.
KNOWN_FAILURES: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="module")
def h2spec(tmp_path_factory) -> Path:
    return build_h2spec(tmp_path_factory.mktemp("h2spec"))


def failed_cases(program: Path, port: int, folder: Path) -> tuple[int, set[tuple[str, str]]]:
    """How many cases ran, and which of them failed or were skipped."""
    report = folder / "report.xml"
    done = subprocess.run(
        [program, "--strict", "--host", "127.0.0.1", "--port", str(port), "--timeout", "5",
         "--junit-report", report],
        text=True,
        capture_output=True,
        timeout=400,
        check=False,
    )  # fmt: skip
    assert report.exists(), done.stdout + done.stderr
    # Not read as XML: the texts of failures in it are not escaped.
    cases = report.read_text().split("<testcase ")[1:]
    bad = [one for one in cases if re.search("<(failure|error|skipped)", one)]
    names = re.compile('package="([^"]*)" classname="([^>]*)" time=')
    return len(cases), {names.match(one).groups() for one in bad}


def test_every_case_passes_in_strict_mode(h2spec: Path, tmp_path: Path):
    async def story() -> tuple[int, set[tuple[str, str]]]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(PlainServer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await asyncio.to_thread(failed_cases, h2spec, port, tmp_path)
        finally:
            server.close()

    count, bad = asyncio.run(story())
    assert bad == set(KNOWN_FAILURES)
    assert count == CASES


def test_a_server_that_breaks_the_rules_is_found(h2spec: Path, tmp_path: Path):
    """The same run finds something in a server that answers no PING."""

    class Deaf(PlainServer):
        def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
            pass

    async def story() -> set[tuple[str, str]]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Deaf, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            program = h2spec.with_name("h2spec-ping")
            program.write_text(f'#!/bin/sh\nexec {h2spec} "$@" http2/6.7\n')
            program.chmod(0o755)
            return (await asyncio.to_thread(failed_cases, program, port, tmp_path))[1]
        finally:
            server.close()

    assert ("http2/6.7", "Sends a PING frame") in asyncio.run(story())
