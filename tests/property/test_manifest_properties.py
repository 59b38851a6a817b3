"""What holds for every manifest, good or bad."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skyflowctl.errors import InvalidInputError
from skyflowctl.manifest.interpolate import BadInterpolationError, interpolate
from skyflowctl.manifest.load import load_manifest, merge
from skyflowctl.manifest.nodes import ManifestFile, plain
from skyflowctl.manifest.yaml_tree import read_tree

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "scenarios" / "bad_manifests"
KNOWN = sorted(
    set(re.findall(r'"([a-z_]+)": \{', (ROOT / "schemas/mounts.schema.json").read_text()))
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.sampled_from(["order", "order:*", "*", "sys/x", "90d", "${X}", "v1.0.0", "generate", "\n"]),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KNOWN), SCALARS), inner, max_size=6),
    ),
    max_leaves=25,
)


def check_bytes(raw: bytes):
    """Load one manifest of these bytes; an InvalidInput is a fine answer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.yaml")
        path.write_bytes(raw)
        problems = problems_of(path)
    assert all(problem.code and problem.summary and problem.fix for problem in problems)
    places = [(one.where.line or 0, one.where.column or 0) for one in problems]
    assert places == sorted(places)


def problems_of(path):
    try:
        load_manifest([str(path)], environ={"X": "x"})
    except InvalidInputError as error:
        return error.problems
    return ()


def mutated(tree, data):
    """The example manifest with one place replaced by something random."""
    copy = json.loads(json.dumps(tree))
    place = copy
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(TREES)
            return copy
        place = place[key]
    return copy


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_any_yaml_is_a_manifest_or_invalid_input(tree):
    check_bytes(yaml.safe_dump(tree, allow_unicode=True).encode())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_example_with_anything_in_one_place(data):
    tree = yaml.safe_load((ROOT / "examples/mounts.yaml").read_text())
    check_bytes(yaml.safe_dump(mutated(tree, data), allow_unicode=True).encode())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
@example(b"%YAML 9.9\n---\na")
@example(b"%TAG ! x\n--- !y\n")
@example(b"? ? ? a")
@example(b"- &a\n- *a\n- <<: *a")
@example(b"{[a]: b, ? , : c}")
@example("\ufeffversion: 1".encode())
def test_any_bytes(raw):
    check_bytes(raw)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_real_file_with_a_piece_replaced(data):
    text = (ROOT / "examples/mounts.yaml").read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    piece = data.draw(st.text("ab:-{}[]&*!|>'\"%@`,?#\n\t 0~<$", max_size=10))
    check_bytes((text[:start] + piece + text[end:]).encode())


MOUNT = st.fixed_dictionaries(
    {},
    optional={
        "description": st.sampled_from(["one", "two"]),
        "tags": st.lists(st.sampled_from(["a", "b"]), unique=True),
        "protect": st.booleans(),
        "credentials": st.sampled_from([{"file": "a"}, {"env": "B"}]),
        "rotation": st.dictionaries(
            st.sampled_from(["max_age", "renew_before"]), st.sampled_from(["90d", "91d"])
        ),
        "roles": st.dictionaries(
            st.sampled_from(["r", "probe", "credentials"]),
            st.fixed_dictionaries(
                {},
                optional={
                    "role_ids": st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=1),
                    "ctx": st.fixed_dictionaries(
                        {}, optional={"probe": st.sampled_from(["p", {"a": 1}, {"b": 2}])}
                    ),
                },
            ),
        ),
    },
)
FILES = st.fixed_dictionaries(
    {},
    optional={
        "manifest": st.sampled_from(["shop", "store"]),
        "defaults": st.dictionaries(st.just("tags"), st.lists(st.sampled_from("ab"), unique=True)),
        "mounts": st.dictionaries(st.sampled_from(["order", "credentials", "roles"]), MOUNT),
    },
)


def root_of(data, name="f"):
    tree = read_tree(json.dumps(data), ManifestFile(name, "/"), {})
    return tree.root


@settings(max_examples=150, deadline=None)
@given(FILES, FILES, FILES)
def test_merging_is_associative(first, second, third):
    one, two, three = root_of(first, "1"), root_of(second, "2"), root_of(third, "3")
    whole = merge([one, two, three])
    assert whole == merge([merge([one, two]), three]) == merge([one, merge([two, three])])
    assert list(plain(whole)) == list(plain(merge([one, merge([two, three])])))


@settings(max_examples=100, deadline=None)
@given(FILES, FILES)
def test_merging_with_nothing_or_itself_changes_nothing(first, second):
    one, two = root_of(first), root_of(second)
    assert plain(merge([one, root_of({})])) == plain(merge([root_of({}), one])) == first
    assert plain(merge([one, one])) == first
    assert plain(merge([one, two, two])) == plain(merge([one, two]))


@given(st.text("$${}:-AB_ a1", max_size=20))
def test_only_uses_are_replaced(text):
    try:
        result = interpolate(text, {"A": "value", "B": ""})
    except BadInterpolationError:
        result = None
    if "${" not in text:
        assert result == text
    elif result is not None:
        assert result != text


@given(st.text("abc $}:-", max_size=20))
def test_an_escaped_use_comes_back_as_written(text):
    written = ("${" + text + "}").replace("${", "$${")
    assert interpolate(written, {}) == "${" + text.replace("$${", "${") + "}"


BAD = [case for case in sorted(CORPUS.glob("*.yaml")) if case.stem != "missing-everything"]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.stem)
def test_a_bad_manifest_stays_bad_beside_a_good_one(case):
    with pytest.raises(InvalidInputError):
        load_manifest(
            [str(case), str(ROOT / "examples/mounts.yaml"), str(case)], environ={"HOME": "/home/x"}
        )
