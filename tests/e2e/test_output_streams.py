"""Standard streams that are closed or full: one clear error or none, never a traceback."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.stack import BIN, clean_environ

FULL = Path("/dev/full")
COMMANDS = [
    ("schema",),
    ("schema", "-o", "json"),
    ("--version",),
    ("--help",),
    ("plan", "--help"),
    ("completion", "bash"),
]

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


def shell(*words: str, redirect: str) -> subprocess.CompletedProcess[str]:
    """Run skyflowctl with its streams as the shell redirects them."""
    script = f'exec "$0" "$@" {redirect}'
    return subprocess.run(
        ["/bin/sh", "-c", script, str(BIN / "skyflowctl"), *words],
        env=clean_environ(),
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_full_stdout_is_one_error_in_three_lines(words: tuple[str, ...]) -> None:
    done = shell(*words, redirect=">/dev/full")
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in lines] == ["error", "because", "fix"]
    assert "No space left on device" in lines[1]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("redirect", [">&-", "<&- >&- 2>&-"])
def test_a_closed_stdout_is_quiet(words: tuple[str, ...], redirect: str) -> None:
    done = shell(*words, redirect=redirect)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("redirect", ["2>/dev/full", "2>&-"])
def test_the_code_stands_when_nobody_can_read_the_error(redirect: str) -> None:
    assert shell("nosuch", redirect=redirect).returncode == 64


def test_a_failed_command_keeps_its_own_code_when_its_output_is_lost_too() -> None:
    done = shell("nosuch", "-o", "json", redirect=">/dev/full")
    assert done.returncode == 64
    assert "No space left on device" in done.stderr
