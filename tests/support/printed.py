"""The commands that a text of ours prints, read as a shell and the real command line read them."""

from __future__ import annotations

import re
import shlex
from typing import Any

from skyflowctl.cli.command import Command, load
from skyflowctl.cli.registry import COMMANDS, GROUPS, find_command

_FIRST = "|".join(sorted({*GROUPS, *(row.name for row in COMMANDS if " " not in row.name)}))
# In quotes to the closing one; else to the end of the line, a bracket or a sign of the shell.
_QUOTED = rf"'skyflowctl ((?:{_FIRST})\b(?:\\.|[^\\'])*)'"
_OPEN = rf"\b(?<!`)skyflowctl ((?:{_FIRST})\b(?:\\.|[^\\';)<>|\"\n])*)"
_PRINTED = re.compile(f"{_QUOTED}|{_OPEN}")


def printed_commands(text: str) -> list[str]:
    """Return every command of ours in a text, without its first word."""
    return [(quoted or other).strip() for quoted, other in _PRINTED.findall(text)]


def parsed(line: str) -> tuple[Command, dict[str, Any]]:
    """Return the command that a printed line calls, and the values of its parameters.

    Raises an error of the command line if the line does not fit the command.
    """
    words = shlex.split(line)
    size = 2 if words[0] in GROUPS else 1
    row = find_command(" ".join(words[:size]))
    assert row, f"there is no command {' '.join(words[:size])}"
    command = load(row)
    return command, command.make_context(row.name, words[size:]).params
