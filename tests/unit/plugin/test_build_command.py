"""Building the launcher from the engine's own small environment, without the command line."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from skyflowctl.plugin.build import main
from skyflowctl.version import semver


def test_it_prints_what_the_catalog_needs(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path), "--name", "sky"]) == 0
    told = json.loads(capsys.readouterr().out)
    (path,) = tmp_path.iterdir()
    assert told["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told["path"] == str(path)
    assert path.name == f"sky-{semver()}-{told['sha256'][:12]}"
    assert told["version"].startswith("v")
    assert told["python"] == sys.executable


def test_a_wrong_folder_is_said_in_three_lines(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path / "absent")]) == 64
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "because", "fix"]


def test_a_folder_that_takes_no_file_is_said_in_three_lines(capsys) -> None:
    assert main(["/proc/self"]) == 64
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "because", "fix"]


def test_it_needs_nothing_of_the_command_line() -> None:
    script = (
        "import sys, skyflowctl.plugin.build; "
        "bad = {'typer', 'rich', 'hvac', 'yaml', 'requests', 'keyring'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(bad)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
