"""The how-to pages: their blocks that are marked to be run, and a shell to type them in."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from support.stack import REPO, Stack

HOW_TO = REPO / "docs" / "how-to"
_BLOCK = re.compile(
    r"^<!-- run(?:: (?P<how>[a-z0-9 ]+))? -->\n```sh\n(?P<script>.*?)^```\n"
    r"(?:```text\n(?P<shown>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
# What differs from run to run: keys, times, how long a step took.
_MOVING = (
    (re.compile(r"\b[0-9a-f]{32}\b"), "KEY"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b\d+ ms\b"), "N ms"),
    (re.compile(r"\brun 01[0-9a-z]{14}\b"), "run RUN"),
    (re.compile(r"\b(accessor=|approvals approve )\w{24}\b"), r"\1ACCESSOR"),
    (re.compile(r"\bcas:\d+ "), "cas:N "),
    (re.compile(r"credential version \d+"), "credential version N"),
    (re.compile(r" +"), " "),
)


@dataclass(frozen=True)
class Block:
    """One block of a page: what to type, with which exit code, and lines that it shows."""

    script: str
    code: int
    shown: tuple[str, ...]


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page that are marked to be run."""
    for found in _BLOCK.finditer((HOW_TO / f"{page}.md").read_text()):
        how = found["how"] or ""
        code = int(how.removeprefix("exit ")) if how.startswith("exit ") else 0
        yield Block(found["script"], code, tuple((found["shown"] or "").splitlines()))


def plain(text: str) -> str:
    for pattern, word in _MOVING:
        text = pattern.sub(word, text)
    return text.strip()


def typed(stack: Stack, script: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Type a block into a shell after ``eval "$(skyflowctl dev env)"`` and ``more`` of it."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**stack.environ, **stack.exports, "SKYFLOWCTL_FILE": "mounts.yaml", **more},
        cwd=stack.folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
