"""Searching outputs and files for secrets, in every form in which one leaks.

Raw, JSON-escaped, base64 (at each of the three alignments), and for keys every window
of 24 characters of the body, so that a wrapped, cut or re-indented key is found too.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

WINDOW = 24
_RUNS = re.compile(rb"[A-Za-z0-9+/=_-]{%d,}" % WINDOW)
_PEM_FRAME = re.compile(r"-----(BEGIN|END) [A-Z ]+-----")
_SHORTEST = 12


@dataclass(frozen=True)
class Needle:
    """One secret's forms to look for as they are, and its key body's windows."""

    name: str
    forms: frozenset[bytes]
    windows: frozenset[bytes]


def needle(name: str, secret: str) -> Needle:
    """Prepare a secret for searching. Key texts (PEM) are recognised by their frame."""
    assert len(secret) >= _SHORTEST, f"{name} is too short to search for"
    raw = secret.encode()
    forms = {raw, json.dumps(secret)[1:-1].encode()}
    forms |= {form for form in _base64_forms(raw) if len(form) >= _SHORTEST}
    windows: set[bytes] = set()
    if _PEM_FRAME.search(secret):
        body = re.sub(r"\s+", "", _PEM_FRAME.sub("", secret.replace("\\n", "\n"))).encode()
        windows = {body[i : i + WINDOW] for i in range(len(body) - WINDOW + 1)}
        # The algorithm header of every RSA key is the same text and no secret.
        windows -= {body[i : i + WINDOW] for i in range(34 - WINDOW + 1)}
    return Needle(name, frozenset(forms), frozenset(windows))


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
        runs = _windows_of(text)
        for one in wanted:
            if any(form in text for form in one.forms) or not runs.isdisjoint(one.windows):
                found.append(f"{where}: {one.name}")
    return found


def _windows_of(text: bytes) -> set[bytes]:
    windows: set[bytes] = set()
    for source in (text, text.replace(b"\\n", b"").replace(b"\n", b"")):
        for run in _RUNS.findall(source):
            windows.update(run[i : i + WINDOW] for i in range(len(run) - WINDOW + 1))
    return windows
