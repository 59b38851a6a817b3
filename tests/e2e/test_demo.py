"""What ``make demo`` runs, twice: the second time nothing changes, and it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.stack import REPO, Stack, clean_environ

pytestmark = pytest.mark.real_server


def run_demo(environ: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "examples/demo.py"],
        env=environ,
        cwd=REPO,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_demo_twice(tmp_path: Path) -> None:
    environ = {**clean_environ(), "HOME": str(tmp_path), "SKYFLOWCTL_DEV_DIR": str(tmp_path / "d")}
    try:
        first, second = run_demo(environ), run_demo(environ)
    finally:
        Stack(tmp_path, environ).cli("dev", "down")
    assert "Applied 18 of 18 changes." in first
    assert "10 of 10 roles mint." in first
    assert "No changes. 18 objects match the manifest." in second
    for text in (first, second):
        assert text.count("valid 3") == 10
        assert "Try these commands" in text
