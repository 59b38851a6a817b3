"""A key at the wrong level: the fix says how to indent it."""

from __future__ import annotations

import pytest

from skyflowctl.errors import InvalidInputError
from skyflowctl.manifest.load import load_manifest

HEAD = "version: 1\nmanifest: m\nmounts:\n  order:\n    credentials: {file: o.json}\n"
ROLE = "    roles:\n      r:\n"


def fixes(tmp_path, text: str) -> list[str]:
    file = tmp_path / "mounts.yaml"
    file.write_text(HEAD + text)
    with pytest.raises(InvalidInputError) as caught:
        load_manifest([str(file)], environ={})
    return [one.fix for one in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        (
            "  roles:\n    r: {role_ids: [x]}\n",
            "indent roles deeper: it belongs to the entry above it",
        ),
        (
            f"{ROLE}      role_ids: [x]\n",
            "indent role_ids deeper: it belongs to the entry above it",
        ),
        ("    role_ids: [x]\n", "indent role_ids deeper: it belongs to an entry of roles"),
        (
            f"{ROLE}        role_ids: [x]\n        protect: true\n",
            "indent protect less: it belongs to a level above",
        ),
        (f"{ROLE}        role_ids: [x]\n        tagz: [a]\n", 'did you mean "tags"?'),
        (f"{ROLE}        role_ids: [x]\n        qqq: 1\n", "remove it"),
    ],
)
def test_the_fix_says_how_to_indent_the_key(tmp_path, text, fix):
    assert fix in fixes(tmp_path, text)
