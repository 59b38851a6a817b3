"""The schema's own checker gives the same answers as jsonschema."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, SchemaError, validators

from skyflowctl.manifest.nodes import ManifestFile, plain
from skyflowctl.manifest.schema import _pattern, published_schema, violations
from skyflowctl.manifest.schema_check import compile_check, fits_schema
from skyflowctl.manifest.yaml_tree import read_tree

ROOT = Path(__file__).parents[2]
SCHEMA = published_schema()


def read(path: Path) -> Any:
    """Return a manifest's data as it is loaded; None: its text is no YAML for a manifest."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
    root = read_tree(text, ManifestFile(path.name, "."), {"HOME": "/home/x"}).root
    return plain(root) if root else None


EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SCENARIOS = sorted((ROOT / "tests/scenarios").rglob("*.yaml"))
SAMPLES = {
    f"{path.parent.name}/{path.stem}": data
    for path in [*EXAMPLES, *SCENARIOS]
    if (data := read(path)) is not None
}
VALID = [*SCHEMA["examples"], *map(read, EXAMPLES)]
Reference: Any = validators.extend(Draft202012Validator, {"pattern": _pattern})

EDGES = [
    None, True, False, 0, 1, 2, -1, 0.0, 1.0, 2.0, 1.5, -0.0, 1e300, 2**53 + 1, 10**30, -(10**30),
    math.inf, -math.inf, math.nan,
    "", "a", "A", "1", "true", " ", "\n", "a\n", "90d", "90d\n", "٣d", "é", "e\u0301", "😀",
    "a\x00b", "\x7f", "a" * 62, "a" * 63, "a" * 64, "a" * 128, "a" * 129, "😀" * 63, "😀" * 64,
    "v1.0.0", "v1.0.0\n", "https://x", "https://é", "10.0.0.0/8", "/abs", "/", "generate", "*",
    [], [""], ["a"], ["a", "a"], ["a", "A"], [1, True], [1, 1.0], [0, False], [None], [[]],
    {}, {"": 1}, {"a": 1}, {"a": "b"}, {"file": "x"}, {"file": "x", "env": "X"}, {"live": 1},
    {"live": True}, {"stdin": True}, {"not a name": {}}, {"a\n": {}},
]  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([one for one in EDGES if not isinstance(one, list | dict)]),
)
VALUES = st.recursive(
    st.one_of(SCALARS, st.sampled_from(EDGES)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["a", "b", "file", "env", ""]), inner, max_size=4),
    ),
    max_leaves=8,
)


def parts(rule: Any):
    """Yield every object of the schema that is itself a schema."""
    if isinstance(rule, dict):
        if rule.keys() & {"type", "$ref", "anyOf", "enum", "const", "not"}:
            yield rule
        for key, value in rule.items():
            if key not in ("examples", "enum", "const"):
                yield from parts(value)
    elif isinstance(rule, list):
        for one in rule:
            yield from parts(one)


PARTS = [part for part in parts(SCHEMA) if not isinstance(part.get("type"), dict)]
NAMES = sorted({name for part in PARTS for name in part.get("properties", ())} | {"", "x", "X Y"})


def places(tree: Any, path: tuple = ()):
    """Yield the path of every value of a tree."""
    yield path
    children = enumerate(tree) if isinstance(tree, list) else ()
    children = tree.items() if isinstance(tree, dict) else children
    for key, value in children:
        yield from places(value, (*path, key))


def at(tree: Any, path: tuple) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def mutated(tree: Any, data: st.DataObject, values: st.SearchStrategy) -> Any:
    """Return the tree with one change: a value, a key, its type, its size."""
    box = {"root": copy.deepcopy(tree)}
    path = data.draw(st.sampled_from([one for one in places(box) if one]))
    holder, key = at(box, path[:-1]), path[-1]
    old = holder[key]
    change = data.draw(
        st.sampled_from(["value", "remove", "add", "rename", "again", "longer", "type", "move"])
    )
    if change == "remove" and len(path) > 1:
        del holder[key]
    elif change == "add" and isinstance(old, dict):
        old[data.draw(st.sampled_from(NAMES))] = data.draw(values)
    elif change == "add" and isinstance(old, list):
        old.append(data.draw(values))
    elif change == "rename" and isinstance(key, str) and len(path) > 1:
        name = data.draw(st.one_of(st.sampled_from([key + "\n", key.upper(), ""]), st.text()))
        holder[name] = holder.pop(key)
    elif change == "again" and isinstance(old, list) and old:
        old.append(copy.deepcopy(data.draw(st.sampled_from(old))))
    elif change == "longer" and isinstance(old, str):
        end = data.draw(st.sampled_from(["\n", "x", "é", " ", "x" * 300, "😀" * 1025]))
        holder[key] = old + end
    elif change == "type":
        wrapped = [[old], {"a": old}, str(old), bool(old)]
        if isinstance(old, int):
            wrapped += [float(old), old + 0.5, old * 10**6]
        holder[key] = data.draw(st.sampled_from(wrapped))
    elif change == "move":
        holder[key] = copy.deepcopy(at(box, data.draw(st.sampled_from(list(places(box))))))
    else:
        holder[key] = data.draw(values)
    return box["root"]


def without_nan(value: Any) -> bool:
    """No list holds NaN: it equals nothing, so that jsonschema's sorting finds no duplicates."""
    return not isinstance(value, float) or not math.isnan(value)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_manifest_of_the_tests_and_examples(name):
    assert fits_schema(SAMPLES[name]) == (not list(violations(SAMPLES[name])))


def test_the_samples_hold_valid_and_invalid_ones():
    assert all(fits_schema(data) for data in VALID)
    assert not any(fits_schema(one) for one in EDGES)
    assert len(SAMPLES) > 200


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_a_valid_manifest_with_some_changes(data):
    tree = data.draw(st.sampled_from(VALID))
    for _ in range(data.draw(st.integers(1, 3))):
        tree = mutated(tree, data, VALUES)
    assert fits_schema(tree) == (not list(violations(tree)))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_every_part_of_the_schema_with_its_examples_and_changes(data):
    part = {**data.draw(st.sampled_from(PARTS)), "$defs": SCHEMA["$defs"]}
    value = data.draw(st.one_of(VALUES, st.sampled_from(part.get("examples", EDGES))))
    if data.draw(st.booleans()):
        value = mutated(value, data, VALUES)
    assert compile_check(part)(value) == Reference(part).is_valid(value)


TYPES = [
    "string", "object", "array", "boolean", "number", "integer", ["string", "integer"],
    ["object", "boolean"], ["array", "number"],
]  # fmt: skip
SIZES = st.integers(0, 3)
PLAIN_KEYWORDS = {
    "type": st.sampled_from(TYPES),
    "enum": st.lists(st.sampled_from([1, True, 0, 2.0, "a", "", None]), min_size=1),
    "const": st.sampled_from([1, True, False, 0.0, "a", [1], {"a": True}]),
    "pattern": st.sampled_from(["^a$", "a", "^[^\\x00-\\x1f\\x7f]+$", "^[0-9]*d?$"]),
    "minimum": st.integers(-2, 2),
    "maximum": st.integers(-2, 2),
    "minLength": SIZES,
    "maxLength": SIZES,
    "minItems": SIZES,
    "maxItems": SIZES,
    "minProperties": SIZES,
    "maxProperties": SIZES,
    "required": st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True),
    "description": st.just("x"),
    "examples": st.just([1]),
}
RULES = st.recursive(
    st.one_of(st.booleans(), st.fixed_dictionaries({}, optional=PLAIN_KEYWORDS)),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
            "additionalProperties": inner,
            "propertyNames": inner,
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=3),
            "not": inner,
            "$ref": st.sampled_from(["#/$defs/one", "#/$defs/two"]),
            "maxLength": SIZES,
            "minItems": SIZES,
        },
    ),
    max_leaves=6,
)


LIMITS = [None, *TYPES, 0, 1, 2, 63, 1.0, True, False, "a", "^a$", "^.$", [1], [True], {"a": 1}]


@pytest.mark.parametrize("keyword", ["uniqueItems", *PLAIN_KEYWORDS])
def test_one_keyword_with_every_edge(keyword):
    """The ``const`` and ``enum`` of every edge, and each other keyword with limits it may have."""
    limits = {"const": EDGES, "enum": [[one] for one in EDGES]}.get(keyword, LIMITS)
    compared = 0
    for limit in limits:
        schema = {keyword: limit}
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError:
            continue
        check, reference = compile_check(schema), Reference(schema)
        for value in [*EDGES, *VALID]:
            assert check(value) == reference.is_valid(value), (schema, value)
            compared += 1
    assert compared


@settings(max_examples=400, deadline=None)
@given(RULES, RULES, VALUES)
def test_any_schema_of_these_keywords(rule, other, value):
    schema = {**rule} if isinstance(rule, dict) else {"anyOf": [rule]}
    schema["$defs"] = {"one": {"type": "string", "minLength": 1}, "two": without_references(other)}
    assert compile_check(schema)(value) == Reference(schema).is_valid(value)


def without_references(rule: Any) -> Any:
    if isinstance(rule, dict):
        return {key: without_references(one) for key, one in rule.items() if key != "$ref"}
    return [without_references(one) for one in rule] if isinstance(rule, list) else rule


def test_a_keyword_without_a_check_is_an_error():
    with pytest.raises(ValueError, match="oneOf has no check"):
        compile_check({"properties": {"a": {"items": {"oneOf": [True]}}}})
    with pytest.raises(ValueError, match="format has no check"):
        compile_check({"$ref": "#/$defs/a", "$defs": {"a": {"format": "uri"}}})
    assert compile_check(SCHEMA)(VALID[0])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(SCALARS.filter(without_nan), max_size=5),
    st.lists(st.sampled_from([1, True, 0, False, 1.0, 0.0, "1"]), max_size=4),
)
def test_unique_items_of_scalars(first, second):
    for items in (first, second, first + second, first + first, [*first, first], [first, second]):
        rule = {"uniqueItems": True}
        assert compile_check(rule)(items) == Reference(rule).is_valid(items)
