"""Every command that a text of ours prints works as it stands: it parses, and names what was named.

One test reads all texts in the source, one the output of real commands.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

import pytest
from support.cli import checked_envelope, invoke
from support.printed import parsed, printed_commands
from support.reached import MANIFEST, reached
from typer.core import TyperArgument

import skyflowctl
from skyflowctl.cli.command import load
from skyflowctl.cli.printed_commands import GivenOptions

SOURCE = Path(skyflowctl.__file__).parent
FILES = ["the shop/mounts v2.yaml", "it's $HOME `pay`.yaml"]
GIVEN = GivenOptions(
    {"file": FILES, "address": "https://bao.example:8200", "skip_verify": True}, load
)
NO_TEXTS = {
    "cli/help.py": "the examples of the first page",
    "cli/completion.py": "scripts",
    "operations/init.py": "the comments of a first manifest",
    "audit/html/__init__.py": "the name of the page's generator",
    "devstack/accounts.py": "the name of an account",
    "devstack/server.py": "a comment of a configuration",
}
STANDS_FOR = {"flag": "--jwt", "accessors": "--accessor A", "words": "order", "named": ""}
"""Values of a text that are more or less than one word."""


def texts(tree: ast.AST) -> Iterator[str]:
    """Every literal text besides docstrings and the examples of help pages."""
    inner: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            inner.add(node.value)
        elif isinstance(node, ast.keyword) and node.arg == "examples":
            inner.update(ast.walk(node.value))
        elif isinstance(node, ast.JoinedStr):
            inner.update(itertools.chain.from_iterable(map(ast.walk, node.values)))
    for node in ast.walk(tree):
        if node in inner:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(map(shown, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def shown(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    return STANDS_FOR.get(ast.unparse(part.value), "1")


FOUND = [
    (f"{name}: {line}", text)
    for file in sorted(SOURCE.rglob("*.py"))
    if (name := file.relative_to(SOURCE).as_posix()) not in NO_TEXTS
    for text in texts(ast.parse(file.read_text()))
    if "skyflowctl dev stack" not in text
    for line in printed_commands(text)
]


def assert_names_the_same(line: str, given: Mapping, own: Container[str] = ()) -> dict:
    """Check that a printed command has each given option that it can have, besides its own."""
    command, values = parsed(line)
    for name in command.repeated.intersection(given).difference(own):
        value = list(values[name]) if isinstance(values[name], tuple) else values[name]
        assert value == given[name], f"{name} of: {line}"
    return values


def test_the_texts_are_found():
    assert len(FOUND) > 150
    assert len({name.partition(":")[0] for name, _ in FOUND}) > 50


@pytest.mark.parametrize(("where", "text"), FOUND, ids=[where for where, _ in FOUND])
def test_every_command_in_a_text_parses_and_repeats_the_options_that_say_where(where, text):
    text = text.replace("--to V'", "--to 1'").replace("{}", "1")
    complete = GIVEN.complete(text)
    for line, before in zip(printed_commands(complete), printed_commands(text), strict=True):
        own = ["file"] if " -f " in before else []
        values = assert_names_the_same(line, GIVEN.values, own)
        # A command that is not in quotes ends with the text: what follows would be arguments.
        named = list(arguments(line, values))
        assert all(re.fullmatch("[A-Z0-9_/]+|order|bash", word) for word in named), (
            f"{where}: {named}"
        )
    assert GIVEN.complete(complete) == complete
    assert GivenOptions().complete(text) == text


def arguments(line: str, values: Mapping) -> Iterator[str]:
    command, _ = parsed(line)
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            value = values[parameter.name] or ()
            yield from [value] if isinstance(value, str) else value


LINES = [
    "plan",
    "plan --prune",
    "plan --prune --allow-destroy=skyflow/old",
    "apply --no-input",
    "apply -y --prune --allow-large-prune",
    "validate",
    "status",
    "health",
    "health --mint",
    "mount list",
    "mount show order",
    "mount show nowhere",
    "mount disable order -y",
    "config show new",
    "config verify new",
    "creds new writer",
    "config write new --description x",
    "mount enable order",
    "config history order",
    "role list nowhere",
    "role show order nothing",
    "rotate order -y",
    "rotate new -y",
    "rotate --retire order -y",
    "rotate --rollback order -y",
    "consumer check nobody",
    "consumer issue shop",
    "consumer revoke shop",
]


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with drift of several kinds; the manifest is in two files with awkward names."""
    server = reached(tmp_path, monkeypatch)
    (tmp_path / "old.yaml").write_text(MANIFEST.replace("  pay:", "  old:"))
    assert invoke("apply", "-y").exit_code == 0
    assert invoke("apply", "-y", "-f", "old.yaml").exit_code == 0
    first, second = (tmp_path / name for name in FILES)
    first.parent.mkdir()
    first.write_text(MANIFEST.replace("writer:", "newer:"))
    second.write_text(MANIFEST[: MANIFEST.index("  pay:")].replace("order:", "new:"))
    (tmp_path / "mounts.yaml").unlink()
    server.mounts["skyflow/old"]["options"]["adopted"] = "true"
    return server


def run(line, given):
    words = [word for name in given["file"] for word in ("-f", name)]
    text = invoke(*line.split(), *words)
    assert text.exit_code != 1, text.output
    data = invoke(*line.split(), *words, "-o", "json")
    told = [text.stdout, text.stderr, data.stderr]
    return [*told, *strings(checked_envelope(data.stdout))]


def strings(data) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list):
        for one in data.values() if isinstance(data, dict) else data:
            yield from strings(one)


@pytest.mark.usefixtures("server")
def test_real_commands_print_commands_for_the_same_files():
    seen: set[str] = set()
    for line in LINES:
        for text in run(line, {"file": FILES}):
            for printed in printed_commands(text):
                assert_names_the_same(printed, {"file": FILES})
                seen.add(printed)
    assert len({parsed(one)[0].row.name for one in seen}) > 5, sorted(seen)
