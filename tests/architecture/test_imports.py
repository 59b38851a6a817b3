"""Every third-party library has an import contract, and the contract finds an import."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import skyflowctl

REPO = Path(__file__).parents[2]
SOURCE = Path(skyflowctl.__file__).parent
CONTRACTS = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
OVER_ALL = [one for one in CONTRACTS if one.get("source_modules") == ["skyflowctl"]]

LATE_BY_DESIGN = ("cli/context/", "cli/commands/")
LATE = {
    "cli/main.py": "static pages are printed before anything else is loaded",
    "cli/streams.py": "main.py loads it for static pages",
    "operations/credentials.py": "a plan that follows no reference loads no resolver",
    "operations/rotate/run.py": "one of four verbs is carried out",
    "skyflow/http/on_demand.py": "only what mints loads h11",
    "plugin/__main__.py": "a plugin process starts within the server's time limit",
    "plugin/launcher.py": "the launcher checks the installation first",
    "telemetry/export.py": "one of two protocols is installed",
    "telemetry/start.py": "nothing of OpenTelemetry is loaded where telemetry is off",
    "vault/connection.py": "a client library is loaded with the first request that needs it",
}
"""Where else an import within a function is kept, and why; the list may only shrink."""


def third_parties() -> set[str]:
    """The top-level packages that src imports and the standard library does not have."""
    found: set[str] = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"skyflowctl"}


def test_every_third_party_library_has_one_contract_over_the_whole_package():
    held = [library for one in OVER_ALL for library in one["forbidden_modules"]]
    assert len(held) == len(set(held))
    assert third_parties() <= set(held)


@pytest.mark.parametrize("library", ["hvac", "typer", "yaml", "grpclib", "jinja2"])
def test_a_contract_finds_an_import_elsewhere(tmp_path, library):
    package = tmp_path / "skyflowctl"
    (package / "rotation").mkdir(parents=True)
    for folder in (package, package / "rotation"):
        (folder / "__init__.py").touch()
    (package / "rotation" / "probe.py").write_text(f"import {library}\n")
    (contract,) = [one for one in OVER_ALL if library in one["forbidden_modules"]]
    config = (
        "[importlinter]\nroot_package = skyflowctl\ninclude_external_packages = True\n"
        "[importlinter:contract:1]\nname = probe\ntype = forbidden\n"
        f"source_modules = skyflowctl\nforbidden_modules = {library}\n"
        "allow_indirect_imports = True\nunmatched_ignore_imports_alerting = none\n"
        "ignore_imports =\n" + "".join(f"    {line}\n" for line in contract["ignore_imports"])
    )
    (tmp_path / "probe.ini").write_text(config)
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", "probe.ini", "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"skyflowctl.rotation.probe -> {library}" in done.stdout


def late_imports(tree: ast.Module) -> list[str]:
    """The modules of ours that functions import."""
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [
        str(node.module)
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("skyflowctl")
    ]


def test_only_commands_and_their_context_import_late():
    found = {
        name
        for file in SOURCE.rglob("*.py")
        if not (name := file.relative_to(SOURCE).as_posix()).startswith(LATE_BY_DESIGN)
        and late_imports(ast.parse(file.read_text()))
    }
    assert found <= set(LATE)


def test_a_late_import_is_seen():
    tree = ast.parse("import os\ndef work():\n    if 1:\n        from skyflowctl.a import b\n")
    assert late_imports(tree) == ["skyflowctl.a"]
