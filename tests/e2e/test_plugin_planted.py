"""Files planted beside the engine's own do not run in the plugin, key in hand."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from support.bao import BaoServer
from support.plugin import mounted, processes_of, register_skyflow, wait_for

pytestmark = pytest.mark.real_server

_BESIDE = (
    "secret/__init__.py",
    f"secret{EXTENSION_SUFFIXES[0]}",
    "clock/__init__.py",
    "errors/deeper.py",
    "vault.py",
    "../_cffi_backend/__init__.py",
    "../planted.pth",
)


def test_after_a_reload_a_planted_module_is_not_loaded(bao: BaoServer, tmp_path: Path):
    register_skyflow(bao, "planted")
    package = bao.folder / "copy-planted" / "src" / "skyflowctl"
    mark = tmp_path / "ran"
    with mounted(bao, "planted", "planted"):
        assert bao.api("GET", "planted/health")[0] == 200
        before = {process.pid for process in processes_of(bao, "planted")}
        for name in _BESIDE:
            (package / name).parent.mkdir(exist_ok=True)
            (package / name).write_text(f"import io; io.open({str(mark)!r}, 'w').close()\n")
        bao.api("PUT", "sys/plugins/reload/backend", {"mounts": ["planted/"]})
        wait_for(lambda: bao.api("GET", "planted/health")[0] == 200)
        after = {process.pid for process in processes_of(bao, "planted")}
    assert after
    assert not after & before
    assert not mark.exists()
