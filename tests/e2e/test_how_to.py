"""The how-to pages, by the letter: their commands run as they stand, their output compared."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser

import pytest
from support.how_to import HOW_TO, blocks, plain, typed
from support.stack import EXAMPLE, REPO, running_stack

pytestmark = pytest.mark.slow

# In the order in which a mount could meet them; restoring a snapshot has a test of its own.
PAGES = (
    "run-with-token",
    "monitor",
    "diagnose",
    "review-plans",
    "planned-rotation",
    "rollback",
    "rotation-from-ci",
    "compromised-key",
    "use-from-python",
    "log-in",
    "change-role",
)


@pytest.mark.real_server
@pytest.mark.timeout(300)
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
    assert all(len(list(blocks(page))) >= (1 if page == "monitor" else 2) for page in PAGES)


@pytest.mark.needs("systemd-analyze")
def test_the_unit_is_one_that_systemd_takes(tmp_path) -> None:
    page = (HOW_TO / "run-with-token.md").read_text()
    (unit,) = re.findall(r"^```ini\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    program = tmp_path / "skyflowctl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    file = tmp_path / "order-token.service"
    file.write_text(unit.replace("/usr/local/bin/skyflowctl", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(file)],
        text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    about = [line for line in done.stderr.splitlines() if "order-token.service" in line]
    assert (done.returncode, about) == (0, []), done.stderr


def test_the_unit_tries_again_until_there_is_a_server_and_keeps_the_old_token() -> None:
    """systemd's own defaults are five starts in 10 s, 0.1 s apart, and an empty new folder."""
    page = (HOW_TO / "run-with-token.md").read_text()
    (text,) = re.findall(r"^```ini\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string(text)
    service = unit["Service"]
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert (service["Restart"], int(service["RestartSec"])) == ("on-failure", 10)
    assert service["SuccessExitStatus"] == "143"  # a stop: SIGTERM, and 143 as of any command
    assert service["RuntimeDirectoryPreserve"] == "restart"
    assert f"/run/{service['RuntimeDirectory']}/" in service["ExecStart"]


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
            who = "approver" if "skyflowctl approvals" in block.script else "operator"
            token = (stack.folder / f"{who}.token").read_text().strip()
            null = "keyring.backends.null.Keyring"
            more = {"BAO_TOKEN": token, "ACCESSOR": accessor, "PYTHON_KEYRING_BACKEND": null}
            done = typed(stack, block.script, **more)
            assert done.returncode == block.code, (block.script, done.stdout)
            # Names and ages of a request differ each time: unit/cli/test_approvals.py.
            shown = () if "approvals show" in block.script else block.shown
            printed = [plain(line) for line in done.stdout.splitlines()]
            for line in map(plain, shown):
                assert line in printed, (line, done.stdout)
            found = re.search(r"approvals approve (\w{24})", done.stdout)
            accessor = found[1] if found else accessor
        shown = typed(stack, "skyflowctl config show order -o json").stdout
        assert '"description": "Order intake"' in shown
