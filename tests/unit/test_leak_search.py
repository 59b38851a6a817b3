"""The search for leaks itself: what it must find, and what it must leave alone."""

from __future__ import annotations

import base64

from support.leaks import find_leaks, needle

SECRET = "dev.0123456789abcdef0123456789abcdef"


def test_finds_base64_at_every_alignment() -> None:
    for before in (b"", b"a", b"ab"):
        text = {"t": base64.b64encode(before + SECRET.encode() + b"zz")}
        assert find_leaks(text, [needle("s", SECRET)]) == ["t: s"]


def test_leaves_other_text_alone() -> None:
    assert find_leaks({"t": b"dev.0123456789 and nothing else"}, [needle("s", SECRET)]) == []
