"""Files of public Go modules, of one version each, checked by the sum that is written here."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

SUMS = {
    "github.com/compose-spec/compose-go/v2@v2.8.1": (
        "h1:27O4dzyhiS/UEUKp1zHOHCBWD1WbxGsYGMNNaSejTk4="
    ),
    "github.com/external-secrets/external-secrets@v1.3.2": (
        "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ="
    ),
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
    for name in ("go.mod", "go.sum"):
        shutil.copy(Path(__file__).parent / "h2spec" / name, folder)
    built = subprocess.run(
        ["go", "build", "-mod=readonly", "-o", "h2spec", "github.com/summerwind/h2spec/cmd/h2spec"],
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "h2spec"
