"""The glossary's types exist, each stands for one term, and the terms are in order."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

GLOSSARY = Path(__file__).parents[2] / "docs" / "glossary.md"
ROWS = re.findall(
    r"^\| ([^|]+) \| ([^|]+) \| (?:`([\w.]+)`)? *\|$", GLOSSARY.read_text(), re.MULTILINE
)
TYPES = [kind for _, _, kind in ROWS if kind]


@pytest.mark.parametrize("kind", TYPES)
def test_a_terms_type_is_in_the_code(kind):
    module, name = kind.rsplit(".", 1)
    found = getattr(importlib.import_module(f"skyflowctl.{module}"), name)
    assert found.__module__ == f"skyflowctl.{module}", "where it is defined"


def test_a_type_stands_for_one_term_and_terms_are_in_order():
    assert len(ROWS) > 40
    assert len(TYPES) == len(set(TYPES))
    terms = [term for term, _, _ in ROWS]
    assert terms == sorted(terms, key=str.lower)
