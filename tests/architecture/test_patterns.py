"""No pattern of the code takes more than proportional time on a text that somebody chose."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import skyflowctl
from skyflowctl.audit.globs import GLOB_MAX, any_glob
from skyflowctl.engine.ctx import CtxPattern
from skyflowctl.errors import UsageError
from skyflowctl.posture.acl import matches_segments
from skyflowctl.posture.grants import _as_pattern
from skyflowctl.posture.policies import parse_policy

SHORT, LONG = 3_000, 12_000
SLOW_SECONDS = 0.002
"""What a linear pattern never takes for a short text; noise is measured again."""
GROWTH = LONG / SHORT * 2


def patterns() -> dict[str, re.Pattern]:
    found: dict[re.Pattern, str] = {}
    for module in pkgutil.walk_packages(skyflowctl.__path__, "skyflowctl."):
        if module.name == "skyflowctl.__main__" or "_pb2" in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern):
                found.setdefault(value, f"{module.name}:{name}")
    return {name: pattern for pattern, name in found.items()}


PATTERNS = patterns()
SOURCE = "\n".join(
    path.read_text(encoding="utf-8") for path in Path(skyflowctl.__path__[0]).rglob("*.py")
)


def uses(name: str, pattern: re.Pattern) -> list[Callable[[str], object]]:
    """How the code asks this pattern: text that fits as a whole, at its start, anywhere."""
    called = set(re.findall(rf"\b{name}\.(\w+)\b", SOURCE))
    asked = [getattr(pattern, one) for one in ("fullmatch", "match", "search") if one in called]
    if called & {"sub", "split", "findall", "finditer"}:
        asked.append(pattern.findall)
    return asked or [pattern.search]


def pieces(pattern: re.Pattern) -> list[str]:
    """What a hostile text is made of: the pattern's own letters and words, and blanks."""
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode()
    words = {one for one in re.findall(r"[A-Za-z]{3,}", text) if len(one) < 16}
    return sorted({*re.findall(r"[ #/:.=*_<>@\"'(){}\[\]-]", text), *words, *"a0 \n"})


def seconds(ask: Callable[[str], object], text: str, times: int = 1) -> float:
    spent = []
    for _ in range(times):
        started = time.process_time()
        ask(text)
        spent.append(time.process_time() - started)
    return min(spent)


def grows(ask: Callable[[str], object], hostile: Callable[[int], str]) -> float:
    """How many times as long the long text takes; measured anew while it seems too long."""
    least = float("inf")
    for _ in range(6):
        short = seconds(ask, hostile(SHORT), 3)
        least = min(least, seconds(ask, hostile(LONG), 3) / max(short, SLOW_SECONDS / 2))
        if least < GROWTH:
            break
    return least


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_no_pattern_takes_more_than_its_texts_length(name: str) -> None:
    pattern = PATTERNS[name]
    parts = pieces(pattern)
    wholes = [*parts, *(one + other for one in parts for other in parts if one != other)]
    is_text = isinstance(pattern.pattern, str)
    for ask in uses(name.partition(":")[2], pattern):
        for part in wholes:
            for end in ("", "\x01"):

                def hostile(size: int, part: str = part, end: str = end) -> str:
                    text = (part * (size // len(part) + 1))[:size] + end
                    return text if is_text else text.encode()  # type: ignore[return-value]

                if seconds(ask, hostile(SHORT)) > SLOW_SECONDS:
                    assert grows(ask, hostile) < GROWTH, (part, end)


def hostile_text(size: int) -> str:
    return "a" * size + "!"


@pytest.mark.parametrize("glob", ["*a*a*a*a*a", "*a?*a?*a?*a?*a?b", "*" * 50 + "a" + "*a" * 400])
def test_h3_a_glob_of_many_stars_takes_linear_time(glob: str) -> None:
    fits = any_glob([glob])
    assert not fits(hostile_text(SHORT))
    assert grows(fits, hostile_text) < GROWTH
    assert seconds(fits, hostile_text(1 << 20)) < 2


def test_h3_a_glob_has_a_bound_that_is_said() -> None:
    any_glob(["*" * GLOB_MAX])
    with pytest.raises(UsageError, match="more than 1024"):
        any_glob(["a" * (GLOB_MAX + 1)])


def test_h3_a_ctx_pattern_takes_linear_time() -> None:
    for text in ("*a*", "*a", "a*", "*" + "a" * 500 + "b*"):
        assert grows(CtxPattern.parse(text).matches, hostile_text) < GROWTH


def test_h3_a_policy_with_templates_or_segments_takes_linear_time() -> None:
    text = 'path "skyflow/' + "{{identity.entity.id}}a" * 12 + '" { capabilities = ["read"] }'
    (rule,) = parse_policy("many", text).rules
    pattern = _as_pattern(rule)
    assert pattern.fullmatch("skyflow/" + "xa" * 12)
    assert grows(pattern.fullmatch, lambda size: "skyflow/" + hostile_text(size)) < GROWTH

    def segments(size: int) -> str:
        return "a/" * (size // 2) + "!"

    assert grows(lambda path: matches_segments("+/" * 200 + "x*", path), segments) < GROWTH


def test_h3_a_policy_of_repeated_pieces_is_read_in_linear_time() -> None:
    for part in ("#", "/*", "//", "<<", "<<A\n", '"', "{", "\\", '"\\u', "path ", "1.", "a "):

        def ask(text: str) -> None:
            parse_policy("hostile", text)

        assert grows(ask, lambda size, part=part: (part * size)[:size]) < GROWTH, part
