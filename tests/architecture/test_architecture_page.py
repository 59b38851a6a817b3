"""ARCHITECTURE.md names modules that exist, and its table says where things are."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import skyflowctl

ROOT = Path(__file__).parents[2]
SOURCE = Path(skyflowctl.__file__).parent
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
NAMED = sorted(set(re.findall(r"`([a-z_0-9/]+(?:\.py|\.json|/))`", PAGE)))
WHERE = re.findall(r"^\| [^|]+\? \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)


def test_every_module_it_names_exists():
    files = {f"/{file.relative_to(SOURCE)}" for file in SOURCE.rglob("*.py")}
    folders = {f"/{file.relative_to(SOURCE)}/" for file in SOURCE.rglob("*") if file.is_dir()}
    missing = [
        name
        for name in NAMED
        if not (ROOT / name).exists()
        and not any(place.endswith(f"/{name}") for place in files | folders)
    ]
    assert len(NAMED) > 50
    assert missing == []


def test_git_grep_finds_what_the_table_says_where_it_says():
    assert len(WHERE) >= 9
    for answer, patterns in WHERE:
        modules = re.findall(r"`([a-z_/]+\.py)`", answer)
        texts = [(SOURCE / module).read_text() for module in modules]
        for pattern in re.findall(r"`([^`]+)`", patterns):
            assert any(pattern in text for text in texts), (modules, pattern)


def layers() -> list[set[str]]:
    """The packages of each layer of the import contract, from the top; modules last."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (found,) = [one["layers"] for one in contracts if one["type"] == "layers"]
    every = [
        {name for name in re.split(r"[ |]+", layer) if not name.startswith("(")} for layer in found
    ]
    return [one for one in every if one]


def test_its_figure_has_the_layers_of_the_import_contract():
    figure = re.search(r"```mermaid\nflowchart TD\n(.*?)```", PAGE, re.DOTALL)
    assert figure is not None
    arrows = [
        tuple(
            set(re.findall(r"[a-z_]+", side.replace("shared[", ""))) for side in line.split("-->")
        )
        for line in figure[1].splitlines()
    ]
    assert arrows == [*itertools.pairwise(layers())]


def test_its_table_has_every_package():
    packages = {file.parent.name for file in SOURCE.glob("*/__init__.py")}
    assert packages <= set(re.findall(r"^\| `([a-z_]+)` \|", PAGE, re.MULTILINE))
