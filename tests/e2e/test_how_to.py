"""The how-to pages, by the letter: their commands run as they stand, their output compared."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support.stack import EXAMPLE, REPO, Stack, running_stack

pytestmark = pytest.mark.slow

HOW_TO = REPO / "docs" / "how-to"
# In the order in which a mount could meet them; restoring a snapshot has a test of its own.
PAGES = ("planned-rotation", "rollback", "rotation-from-ci", "compromised-key")
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
    (re.compile(r"\baccessor=\w{24}\b"), "accessor=ACCESSOR"),
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


@pytest.mark.real_server
def test_every_marked_command_does_what_its_page_shows() -> None:
    with running_stack(EXAMPLE, apply=True) as stack:
        shutil.copytree(REPO / "docs", stack.folder / "docs")
        for page in PAGES:
            for block in blocks(page):
                done = typed(stack, block.script)
                assert done.returncode == block.code, (page, block.script, done.stdout)
                printed = [plain(line) for line in done.stdout.splitlines()]
                for line in filter(None, map(plain, block.shown)):
                    assert any(line in one for one in printed), (page, line, done.stdout)


def test_the_pages_have_something_to_run() -> None:
    assert all(len(list(blocks(page))) >= 2 for page in PAGES)


def test_every_page_is_listed_and_leads_to_files_that_are_there() -> None:
    listed = (HOW_TO / "README.md").read_text()
    for page in HOW_TO.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in listed
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


@pytest.mark.parametrize("page", sorted(one.stem for one in HOW_TO.glob("*-*.md")))
def test_where_skyflow_makes_a_key_the_page_says_what_that_was_verified_against(page: str) -> None:
    text = " ".join((HOW_TO / f"{page}.md").read_text().replace("#", "").split())
    if "--generate" in text:
        assert "verified against the emulator and the public API document only" in text


def test_moving_parts_are_the_only_ones_that_may_differ() -> None:
    assert plain("ok  write   76 ms  credential version 2") == "ok write N ms credential version N"
    assert plain("payment is rotated") != plain("payment is rolled back")


@pytest.mark.real_server
def test_the_page_on_approvals_can_be_followed_on_a_fresh_dev_server() -> None:
    page = (HOW_TO / "approvals.md").read_text()
    policy = "\n".join(re.findall(r"^```hcl\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    (setup,) = re.findall(r"^<!-- setup -->\n```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    with running_stack(EXAMPLE, apply=True) as stack:
        (stack.folder / "order-guarded.hcl").write_text(policy)
        done = typed(stack, setup)
        assert done.returncode == 0, done.stdout
        accessor = ""
        for block in blocks("approvals"):
            who = "approver" if block.script.startswith("bao ") else "operator"
            token = (stack.folder / f"{who}.token").read_text().strip()
            null = "keyring.backends.null.Keyring"
            more = {"BAO_TOKEN": token, "ACCESSOR": accessor, "PYTHON_KEYRING_BACKEND": null}
            done = typed(stack, block.script, **more)
            assert done.returncode == block.code, (block.script, done.stdout)
            found = re.search(r"accessor=(\w{24})", done.stdout)
            accessor = found[1] if found else accessor
        shown = typed(stack, "skyflowctl config show order -o json").stdout
        assert '"description": "Order intake"' in shown
