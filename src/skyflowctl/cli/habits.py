"""Flags in the style of ``bao``, ``vault`` and ``terraform``, which users type out of habit.

The stock clients write long flags with one dash. Read as a group of short options, ``-field=x``
would be ``-f`` with the value ``ield=x``. Flags with the same meaning here are accepted; others are
refused with the name of this tool's own flag.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from skyflowctl.cli.registry import children, find_command
from skyflowctl.errors import UsageError

_LONG = re.compile(r"(--?)([a-z][a-z-]+)(?:=(.*))?", re.DOTALL)
# The stock client's data field; there it reads a value from @file or -.
_CTX = re.compile(r"ctx=[^@-].*", re.DOTALL)
_TAKES_CTX = frozenset({"creds", "exec", "sign", "token-file"})
_SAFE_FIELD = re.compile(r"[a-z][a-z_]{0,40}")
_MOUNT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}(?:/[a-z0-9][a-z0-9_-]{0,62})*")
_TAKES_MOUNTS = frozenset({"plan", "apply", "status", "health", "rotate"})
_SAME = {"ns": "namespace", "help": "help"}
_NOT_MOVED = frozenset({"-", "--", "-h", "--help", "--version"})
_WITH_VALUE = frozenset(
    {"address", "namespace", "ns", "format", "output", "field", "file", "target", "out", "o", "f"}
)
_TRUE = frozenset({None, "1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_NEAR = 0.5
_LISTED = 12
_OPEN = frozenset({"config show"})  # shows the engine's fields besides the published ones
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,40}")
_FORMS = frozenset({"table", "json", "env", "raw", "sarif"})

FlagTable = Mapping[str, bool]
"""Maps every option's name, such as ``-o`` or ``--output``, to whether it takes a value."""


def translate(command: str, words: Sequence[str], options: FlagTable) -> list[str]:
    """Return a command's arguments with foreign flags translated.

    Args:
        command: its full name, such as ``config show``.
        words: the arguments after the command's name.
        options: the command's options.

    Raises:
        UsageError: a foreign flag has no equivalent; the error names the alternative.
    """
    taken: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            return [*taken, word, *left]
        match = _LONG.fullmatch(word)
        if command in _TAKES_CTX and _CTX.fullmatch(word):
            taken.append(f"--{word}")
        elif match is None:
            _check_bundle(command, word, options)
            taken += [word, *_value_behind(word, options, left)]
        else:
            taken += _one(command, match, options, left)
    return taken


def after_command_name(words: Sequence[str]) -> list[str]:
    """Return a command line with the flags before the command's name moved after it.

    So ``-address=URL status`` becomes ``status -address=URL``: other clients allow flags there.

    Raises:
        UsageError: there are flags, and no command.
    """
    name: list[str] = []
    flags: list[str] = []
    left = list(words)
    while left and not find_command(" ".join(name)):
        known = [word for word, _, _ in children(" ".join(name))]
        word = left[0]
        if word in known:
            name.append(left.pop(0))
        elif word.startswith("-") and word not in _NOT_MOVED:
            flags += [left.pop(0), *_value_in_front(word, left, known)]
        else:
            break
    if not flags:
        return list(words)
    if not left and not find_command(" ".join(name)):
        raise UsageError(
            "no command is named",
            why=f"{flags[0].partition('=')[0]} is an option of a command",
            fix=f"'skyflowctl {' '.join([*name, '--help'])}' lists the commands",
        )
    return [*name, *flags, *left] if find_command(" ".join(name)) else [*name, *left]


def _value_in_front(flag: str, left: list[str], known: Sequence[str]) -> list[str]:
    """Remove the flag's value from the following arguments, if it can be recognised."""
    if "=" in flag or not left or left[0].startswith("-"):
        return []
    always = flag.lstrip("-") in _WITH_VALUE
    before_the_name = left[0] not in known and any(word in known for word in left[1:])
    return [left.pop(0)] if always or before_the_name else []


def _one(
    command: str, match: re.Match[str], options: FlagTable, left: Iterator[str]
) -> Sequence[str]:
    """Return one long flag in this tool's form, with its value."""
    dashes, name, value = match[1], match[2], match[3]
    ours = f"--{_SAME.get(name, name)}"
    if ours in options:
        whole = ours if value is None else f"{ours}={value}"
        return [whole, *(() if value is not None else _value_behind(ours, options, left))]
    habit = _HABITS.get(name)
    if habit is not None:
        if value is None and name not in _WITHOUT_VALUE:
            value = next(left, "")
        return habit(command, value, options)
    if dashes == "-":
        _check_bundle(command, match[0], options)
    return [match[0]]


def _check_bundle(command: str, word: str, options: FlagTable) -> None:
    """Refuse an argument with one dash, unless it is short options without values, such as -vy.

    Read as short options, ``-force`` would be ``-f`` with the value ``orce``. An output format may
    follow its option directly: ``-ojson`` is unambiguous.

    Raises:
        UsageError: it is anything else.
    """
    if not word.startswith("-") or word.startswith("--") or len(word) <= 2:
        return
    if all(options.get(f"-{letter}", True) is False for letter in word[1:]):
        return
    if "-o" in options and word.removeprefix("-o").removeprefix("=") in _FORMS:
        return
    name = word[1:].partition("=")[0]
    longs = [option for option in options if option.startswith("--")]
    near = get_close_matches(f"--{name}", longs, n=1, cutoff=_NEAR)
    fix = f"'skyflowctl {command} --help' lists all options"
    if near:
        fix = f"did you mean {near[0]}? {fix}"
    if options.get(word[:2]):
        fix += f"; {word[:2]} takes its value apart: {word[:2]} VALUE"
    shown = f"-{name}" if _NAME.fullmatch(name) else word[:2]
    raise _refused(
        f"no such option: {shown}",
        "an argument with one dash and several letters is not an option",
        fix,
    )


def _value_behind(word: str, options: FlagTable, left: Iterator[str]) -> list[str]:
    """Return the value after an option that takes one, even if it looks like a flag."""
    if not options.get(word, False):
        return []
    return [value for value in [next(left, None)] if value is not None]


def _format(command: str, value: str | None, options: FlagTable) -> Sequence[str]:
    if value in {"json", "table"} and "--output" in options:
        return ["--output", value or ""]
    why = "the forms are table and json" if "--output" in options else "it has one form only"
    fix = "use -o json" if "--output" in options else f"run 'skyflowctl {command} --help'"
    raise _refused("this form of output is not known", why, fix)


def _field(command: str, value: str | None, _options: FlagTable) -> Sequence[str]:
    if command == "creds" and value == "access_token":
        return ["--output", "raw"]
    places = field_places(command)
    if command in _OPEN and value and _SAFE_FIELD.fullmatch(value):
        places.setdefault(value, f".data.{value}")
    wanted = value if value in places else ""
    near = get_close_matches(value or "", places, n=1)
    if not wanted and near:
        wanted = near[0]
    fix = "give -o json: its data has the fields"
    if wanted:
        fix = f"give -o json and pick it with: jq -r '{places[wanted]}'"
    elif places:
        fix = f"{fix} {', '.join(list(places)[:_LISTED])}"
    known = value in places or not value or not _SAFE_FIELD.fullmatch(value)
    raise _refused(
        "single fields are not picked here",
        "-field is the stock client's" if known else f"there is no field {value}",
        fix,
    )


def _auto_approve(command: str, value: str | None, options: FlagTable) -> Sequence[str]:
    if "--yes" not in options:
        raise _refused(
            f"{command} asks nothing",
            "it asks no question that -auto-approve could answer",
            "leave it out",
        )
    if value not in _TRUE | _FALSE:
        raise _refused(
            "-auto-approve has no truth value",
            "it is neither true nor false",
            "give -y to answer the question with yes, or leave it out",
        )
    return ["--yes"] if value in _TRUE else []


def _target(command: str, value: str | None, _options: FlagTable) -> Sequence[str]:
    named = value if value and _MOUNT.fullmatch(value) else "MOUNT"
    raise _refused(
        "a part is not chosen by -target",
        "mounts are named as arguments, by commands that take some",
        f"skyflowctl {command} {named}" if command in _TAKES_MOUNTS else "leave it out",
    )


def _out(command: str, value: str | None, _options: FlagTable) -> Sequence[str]:
    if command == "plugin build":
        raise _refused(
            "plugin build has no option --out",
            "the directory is its argument",
            f"skyflowctl plugin build {shlex.quote(value or 'DIRECTORY')}",
        )
    raise _refused(
        f"{command} has no option --out",
        "only plan saves a plan",
        "run 'skyflowctl plan --out FILE.json', or leave it out",
    )


def _variables(_command: str, _value: str | None, _options: FlagTable) -> Sequence[str]:
    raise _refused(
        "there are no files of variables",
        "a manifest takes ${NAME} from the environment, and several manifests are merged",
        "set the variable, or give the file as one more -f FILE",
    )


_Habit = Callable[[str, str | None, FlagTable], Sequence[str]]
_HABITS: Mapping[str, _Habit] = {
    "format": _format,
    "field": _field,
    "auto-approve": _auto_approve,
    "target": _target,
    "out": _out,
    "var-file": _variables,
    "var": _variables,
}
_WITHOUT_VALUE = frozenset({"auto-approve"})


def _refused(summary: str, why: str, fix: str) -> UsageError:
    return UsageError(summary, why=why, fix=fix, code="flag-of-habit")


def field_places(command: str) -> dict[str, str]:
    """Return the fields of a command's data, each with the jq expression that picks it.

    If several fields have one name, the outermost counts. Empty if no schema is published.
    """
    import json
    from pathlib import Path

    package = Path(__file__).resolve().parents[1]
    name = f"{command.replace(' ', '-')}.schema.json"
    # In a wheel next to the code; in an editable install at the repository's top.
    for top in (package, package.parents[1]):
        file = top / "schemas" / "output" / name
        if file.is_file():
            schema = json.loads(file.read_text(encoding="utf-8"))
            return _outermost(_fields(schema, ".data"))
    return {}


def _fields(schema: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    """Yield the names and places of all fields below a place."""
    for one in (schema, *schema.get("oneOf", ()), *schema.get("anyOf", ())):
        for name, below in one.get("properties", {}).items():
            yield name, f"{place}.{name}"
            yield from _fields(below, f"{place}.{name}")
        if isinstance(one.get("items"), dict):
            yield from _fields(one["items"], f"{place}[]")
        if one is not schema:
            yield from _fields({"oneOf": one.get("oneOf", ())}, place)


def _outermost(found: Iterator[tuple[str, str]]) -> dict[str, str]:
    places: dict[str, str] = {}
    for name, place in found:
        if name not in places or _depth(place) < _depth(places[name]):
            places[name] = place
    return places


def _depth(place: str) -> int:
    return place.count(".") + place.count("[")
