"""Printed commands work as they stand: they repeat the options that say where.

A text of ours names a command without the caller's ``-f FILE`` or ``--address URL``. Copied into a
shell, it would act on another manifest or server. The texts are completed here when they leave the
program. ``options.py`` declares which options a command repeats.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import field
from functools import cache
from typing import Any

from skyflowctl.cli.registry import COMMANDS, CommandRow, find_command
from skyflowctl.frozen import dataclass

_FIELDS = frozenset({"fix", "why", "detail", "next", "back"})
"""The fields of a result whose texts name commands."""
_SAVED_PLAN = re.compile(r" \S+\.json\b")
"""The argument of ``apply`` that has its own manifest."""


@dataclass(frozen=True, slots=True)
class GivenOptions:
    """The options of a command line that the commands it prints repeat.

    Args:
        values: by the parameter's name; without those that were not given.
        load: returns a command with its options.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    load: Callable[[CommandRow], Any] | None = None

    def complete(self, text: str) -> str:
        """Return a text whose commands have these options too.

        A command without such an option, or with one of its own, does not get it.
        """
        if not self.values or "skyflowctl " not in text:
            return text
        return _pattern().sub(self._with_options, text)

    def complete_data(self, data: Any, *, named: bool = False) -> Any:
        """Return a result's data, ready for JSON, with the commands in its fixes completed;
        ``named``: it is the value of a field that names commands."""
        if not self.values:
            return data
        if isinstance(data, str):
            return self.complete(data) if named else data
        if isinstance(data, Mapping):
            return {
                key: self.complete_data(value, named=key in _FIELDS) for key, value in data.items()
            }
        if isinstance(data, list | tuple):
            return [self.complete_data(one) for one in data]
        return data

    def _with_options(self, match: re.Match[str]) -> str:
        name, rest = match.groups()
        words = [
            word
            for flags, value in self._of_command(name)
            if not any(re.search(rf" {flag}(?=[ =]|$)", rest) for flag in flags)
            and not ("-f" in flags and _SAVED_PLAN.match(rest))
            for word in _words(flags, value)
        ]
        return " ".join(["skyflowctl", name, *words]) + rest

    def _of_command(self, name: str) -> Iterator[tuple[list[str], Any]]:
        """Yield the flags and the value of each option that a command repeats; files first."""
        row = find_command(name)
        assert row
        assert self.load
        built = self.load(row)
        for parameter in sorted(built.params, key=lambda one: one.name != "file"):
            if parameter.name in built.repeated and parameter.name in self.values:
                yield parameter.opts, self.values[parameter.name]


_given: ContextVar[GivenOptions] = ContextVar("given", default=GivenOptions())  # noqa: B039 - it is frozen


@contextlib.contextmanager
def repeating(values: Mapping[str, Any], load: Callable[[CommandRow], Any]) -> Iterator[None]:
    """Let the commands that are printed in this block repeat these options."""
    given = {name: value for name, value in values.items() if value}
    token = _given.set(GivenOptions(given, load))
    try:
        yield
    finally:
        _given.reset(token)


def given_options() -> GivenOptions:
    """Return the options that a printed command repeats now."""
    return _given.get()


@cache
def _pattern() -> re.Pattern[str]:
    """Return the pattern of a command: its name, and the text up to a quote, a semicolon or the
    next command."""
    names = "|".join(sorted((row.name for row in COMMANDS), key=len, reverse=True))
    return re.compile(rf"\bskyflowctl ({names})(?![\w-])((?:\\.|(?!skyflowctl )[^\\';\n])*)")


def _words(flags: list[str], value: Any) -> Iterator[str]:
    if value is True:
        yield flags[0]
        return
    short = next((flag for flag in flags if not flag.startswith("--")), "")
    for one in value if isinstance(value, list | tuple) else [value]:
        yield f"{short} {_shell_word(one)}" if short else f"{flags[0]}={_shell_word(one)}"


def shell_words(words: Iterable[str]) -> str:
    """Return a command line for a shell, without quotes: it may stand in quotes itself."""
    return " ".join(_shell_word(word) for word in words)


def _shell_word(text: str) -> str:
    return re.sub(r"([^\w@%+=:,./-])", r"\\\1", text, flags=re.ASCII)
