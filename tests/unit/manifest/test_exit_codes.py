"""What a user sees of a bad manifest: exit 65, every position, in text and JSON, no traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CORPUS = Path(__file__).parents[2] / "scenarios" / "bad_manifests"
CASES = sorted(CORPUS.glob("*.yaml"))
# One process for every case: starting one for each would take most of a minute.
MANY_COMMANDS = """
import contextlib, io, json, sys
from skyflowctl.cli.app import run_command_line
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_command_line(json.loads(line))
            code = None
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def run_all(commands: list[list[str]]) -> list[tuple[int, str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", MANY_COMMANDS],
        input="".join(json.dumps(command) + "\n" for command in commands),
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "HOME": "/home/someone", "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def as_json():
    found = run_all([["validate", "-f", str(case), "-o", "json"] for case in CASES])
    return dict(zip(CASES, found, strict=True))


@pytest.fixture(scope="module")
def as_text():
    found = run_all([["validate", "-f", str(case)] for case in CASES])
    return dict(zip(CASES, found, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_validate_as_json(as_json, case):
    code, out, err = as_json[case]
    envelope = json.loads(out)
    assert (code, envelope["status"]) == (65, "error")
    assert envelope["errors"]
    for error in envelope["errors"]:
        assert error["code"]
        assert error["summary"]
        assert error["fix"]
        assert error["where"]["file"] == str(case)
        assert error["where"]["line"] >= 1
        assert error["where"]["column"] >= 1
    assert "Traceback" not in out + err


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_validate_as_text(as_text, case):
    code, out, err = as_text[case]
    assert (code, out) == (65, "")
    assert re.search(rf"^{re.escape(str(case))}:\d+:\d+: error: ", err, re.MULTILINE), err
    assert "fix: " in err
    assert "Traceback" not in err


def test_a_real_process_does_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "skyflowctl", "validate", "-f", str(CORPUS / "all-at-once.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (65, "")
    assert done.stderr.count("error: ") == 7
