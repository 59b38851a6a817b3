"""A manifest that is written reads back to the same data, whatever its texts are."""

from __future__ import annotations

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from skyflowctl.engine.ctx import is_printable
from skyflowctl.manifest.load import load_manifest
from skyflowctl.manifest.write import manifest_text

TEXTS = st.text(max_size=60).filter(lambda text: is_printable(text) and "\n" not in text)
HOSTILE = st.sampled_from(
    [
        "yes",
        "no",
        "1:30",
        "0o17",
        "1e3",
        "null",
        "~",
        "${HOME}",
        "$${x}",
        "- a",
        "a: b",
        "#c",
        "2026-01-01",
    ]
)


@settings(deadline=None)
@given(TEXTS | HOSTILE, st.lists(st.sampled_from(["env:prod", "a:b", "x"]), unique=True))
def test_any_description_comes_back(tmp_path_factory, description, tags):
    file = tmp_path_factory.mktemp("written") / "mounts.yaml"
    roles = {"r": {"role_ids": ["x"], "description": description, "tags": tags}}
    data = {"version": 1, "manifest": "m", "mounts": {"order": {"roles": roles}}}
    file.write_text(manifest_text(data), encoding="utf-8")
    (mount,) = load_manifest([str(file)], environ={}).manifest.mounts
    assert (mount.roles[0].description, list(mount.roles[0].tags)) == (description, tags)


def test_a_policy_is_a_block_and_an_unprintable_text_is_escaped():
    text = manifest_text(
        {"policies": {"p": {"text": 'path "a" {\n}\n'}}, "d": "a\u202eb"}, ("head",)
    )
    assert "text: |\n" in text
    assert "\u202e" not in text
    assert text.splitlines()[1] == "# head"
    assert yaml.safe_load(text) == {"policies": {"p": {"text": 'path "a" {\n}\n'}}, "d": "a\u202eb"}
