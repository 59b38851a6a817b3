"""The published schemas compile in strict validators and in those with RE2 patterns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "schemas").rglob("*.json"))
# RE2 (Go) has no look-around, no back-references, no \\u, and repeats at most 1,000 times.
NOT_IN_RE2 = re.compile(
    r"\(\?(?:[=!>]|<[=!])|\\[1-9uZ]|\{\d*,?(?:[1-9]\d{4,}|100[1-9]|10[1-9]\d|1[1-9]\d\d|[2-9]\d{3})\}"
)


def rules(part: object) -> Iterator[dict[str, object]]:
    if isinstance(part, dict):
        yield part
        for value in part.values():
            yield from rules(value)
    elif isinstance(part, list):
        for value in part:
            yield from rules(value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_point_16_types_and_patterns_are_those_that_every_validator_takes(file: Path):
    for rule in rules(json.loads(file.read_text())):
        types = rule.get("type")
        if isinstance(types, list) and all(isinstance(one, str) for one in types):
            # Ajv's strictTypes: one type, and null beside it.
            assert len(types) == 1 or (len(types) == 2 and "null" in types), rule
        pattern = rule.get("pattern")
        if isinstance(pattern, str):
            assert not NOT_IN_RE2.search(pattern), pattern


def test_point_16_the_check_of_patterns_can_fail():
    for pattern in (r"a\u0000", "(?=a)", "(?<!a)", r"(a)\1", "a{1,1001}", "a{5000}"):
        assert NOT_IN_RE2.search(pattern), pattern
    for pattern in (r"[^\x00-\x1f]", "(?:a)", "a{1,1000}", "a{0,62}"):
        assert not NOT_IN_RE2.search(pattern), pattern
