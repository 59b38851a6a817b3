"""Files of public Go modules, of one version each, checked by the sum that is written here."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

_BUILDER = "go.opentelemetry.io/collector/cmd/builder"

SUMS = {
    "github.com/compose-spec/compose-go/v2@v2.8.1": (
        "h1:27O4dzyhiS/UEUKp1zHOHCBWD1WbxGsYGMNNaSejTk4="
    ),
    "github.com/external-secrets/external-secrets@v1.3.2": (
        "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ="
    ),
    f"{_BUILDER}@v0.165.0": "h1:UKsS/BX+7hEP1MwjHYTPB8yB7z0LSVAC5BTlrSKgpY0=",
}


def module_folder(name: str) -> Path:
    """Fetch a module of ``SUMS`` once, and return the folder of its files.

    Go caches it; only the first call on a machine needs the network.
    """
    with tempfile.TemporaryDirectory() as outside:  # outside of any module of our own
        fetched = subprocess.run(
            ["go", "mod", "download", "-json", name],
            cwd=outside,
            text=True,
            capture_output=True,
            timeout=240,
            check=False,
        )
    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    found = json.loads(fetched.stdout)
    assert found["Sum"] == SUMS[name], f"{name} is not the module that was reviewed"
    return Path(found["Dir"])


def build_h2spec(folder: Path) -> Path:
    """Build h2spec 2.2.1, and return the program.

    Its versions and their sums, and those of the libraries that it needs, are in ``h2spec/``.
    """
    _pin("h2spec", folder)
    _go_build(folder, folder / "h2spec", "github.com/summerwind/h2spec/cmd/h2spec")
    return folder / "h2spec"


def build_collector(folder: Path) -> Path:
    """Build an OpenTelemetry collector with its own builder, and return the program.

    It receives OTLP, prints what arrives, and shows metrics to Prometheus. ``collector/`` has its parts, and the versions and
    sums of all that they need. Go caches the parts; a first build took 1 min 51 s on
    two busy processors.
    """
    _go_build(module_folder(f"{_BUILDER}@v0.165.0"), folder / "builder", ".")
    shutil.copy(Path(__file__).parent / "collector" / "builder.yaml", folder)
    make = [folder / "builder", "--config=builder.yaml", "--skip-compilation", "--skip-get-modules"]
    made = subprocess.run(make, cwd=folder, text=True, capture_output=True, timeout=60, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    _pin("collector", folder)
    _go_build(folder, folder / "collector", ".")
    return folder / "collector"


def _pin(name: str, folder: Path) -> None:
    for file in ("go.mod", "go.sum"):
        shutil.copy(Path(__file__).parent / name / file, folder)


def _go_build(folder: Path, program: Path, package: str) -> None:
    built = subprocess.run(
        ["go", "build", "-mod=readonly", "-o", program, package],
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=500,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
