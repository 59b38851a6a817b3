"""``skyflowctl-client``: a wheel with the client's files, byte for byte, and no dependency."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import skyflowctl.client
from skyflowctl.version import __version__

REPO = Path(__file__).resolve().parents[3]
FILES = Path(skyflowctl.client.__file__).parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=REPO / "packaging" / "client",
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_it_has_the_same_files(wheel: Path):
    with zipfile.ZipFile(wheel) as packed:
        found = {
            name.removeprefix("skyflowctl_client/"): packed.read(name)
            for name in packed.namelist()
            if ".dist-info/" not in name
        }
    sources = {
        str(file.relative_to(FILES)): file.read_bytes()
        for file in FILES.rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert set(found) == set(sources)
    assert "py.typed" in found
    assert found == sources


def test_it_needs_no_other_package_and_has_our_version(wheel: Path):
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [one for one in packed.namelist() if one.endswith("/METADATA")]
        metadata = packed.read(name).decode().partition("\n\n")[0].splitlines()
    assert f"Version: {__version__}" in metadata
    assert not [line for line in metadata if line.startswith("Requires-Dist")]


def test_it_works_where_skyflowctl_is_not(wheel: Path, tmp_path: Path):
    code = (
        "import sys\n"
        "from skyflowctl_client import AppRole, AsyncTokenSource, TokenSource, TokenSourceError\n"
        "source = TokenSource(AppRole('a', 'b'), server='http://127.0.0.1:1')\n"
        "print(source, AsyncTokenSource.__name__)\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'skyflowctl'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(wheel)},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "TokenSource(http://127.0.0.1:1) AsyncTokenSource",
        "[]",
    ]
