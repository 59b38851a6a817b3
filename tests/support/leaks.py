"""Searching outputs and files for secrets, in every form in which one leaks.

Raw, JSON-escaped, base64 (at each of the three alignments), and for keys every window
of 24 characters of the body and of its base64, so that a wrapped, cut or re-indented key
is found too.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

WINDOW = 24
_RUNS = re.compile(rb"[A-Za-z0-9+/=_-]{%d,}" % WINDOW)
_WRAPS = re.compile(rb"(\\+[nr]|\s)+")
_PEM_FRAME = re.compile(r"-----(BEGIN|END) [A-Z ]+-----")
_SHORTEST = 12
# The algorithm header of every RSA key is the same text and no secret.
_HEADER = 34


@dataclass(frozen=True)
class Needle:
    """One secret's forms to look for as they are, and its key body's windows."""

    name: str
    forms: frozenset[bytes]
    windows: frozenset[bytes]


def needle(name: str, secret: str) -> Needle:
    """Prepare a secret for searching. A key (PEM) is recognised by its frame."""
    assert len(secret) >= _SHORTEST, f"{name} is too short to search for"
    raw = secret.encode()
    forms = {raw, json.dumps(secret)[1:-1].encode()}
    forms |= {form for form in _base64_forms(raw) if len(form) >= _SHORTEST}
    windows = _key_windows(secret) if _PEM_FRAME.match(secret) else frozenset()
    return Needle(name, frozenset(forms), windows)


def _key_windows(pem: str) -> frozenset[bytes]:
    """Every window of the key's body, and of base64 texts of it in its usual wrappings."""
    lines = _PEM_FRAME.sub("", pem.replace("\\n", "\n")).strip()
    body = re.sub(r"\s+", "", lines)
    windows = set(_windows(body[_HEADER - WINDOW + 1 :].encode()))
    inner = lines[_HEADER:]
    for wrapped in (inner, json.dumps(inner)[1:-1], body[_HEADER:]):
        for form in _base64_forms(wrapped.encode()):
            windows.update(_windows(form))
    return frozenset(windows)


def _base64_forms(raw: bytes) -> Iterable[bytes]:
    """The part of the base64 text that is the same whatever stands before and after."""
    for shift in range(3):
        for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * shift + raw).rstrip(b"=")
            start = -(-shift * 8 // 6)
            yield text[start:-1] if len(text) > start + 1 else text


def find_leaks(haystacks: Mapping[str, bytes], needles: Iterable[Needle]) -> list[str]:
    """Return ``where: secret`` for every secret found in one of the texts."""
    wanted = list(needles)
    found = []
    for where, text in haystacks.items():
        joined = _WRAPS.sub(b"", text)
        runs = _windows_of(text) | _windows_of(joined)
        for one in wanted:
            whole = any(form in text or form in joined for form in one.forms)
            if whole or not runs.isdisjoint(one.windows):
                found.append(f"{where}: {one.name}")
    return found


def _windows_of(text: bytes) -> set[bytes]:
    return {window for run in _RUNS.findall(text) for window in _windows(run)}


def _windows(run: bytes) -> Iterable[bytes]:
    return (run[i : i + WINDOW] for i in range(len(run) - WINDOW + 1))
