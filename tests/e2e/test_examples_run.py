"""E3: every example of a help page, and the blocks of README and docs, run as they stand.

Only folders of a server (/etc, /var, ~) are replaced by ones below the test's own. A command
that asks gets no answer here: then it must have come as far as the question.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess

import pytest
from support.rotation_load import emulator_of
from support.stack import (
    BIN,
    EXAMPLE,
    REPO,
    Stack,
    example_with_consumer,
    running_stack,
)

from skyflowctl.cli.app import every_command
from skyflowctl.cli.command import load
from skyflowctl.cli.registry import find_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# What ends the stack, or a mount of it, comes last, in this order.
_LAST = (
    "config revoke",
    "mount disable payment",
    "config write order --credentials",
    "dev down",
    "dev reset",
)
# Commands that go on until they are stopped.
_ENDLESS = re.compile(
    r"audit tail|dev logs.* -f$|--watch|dev logs -f|token-file(?!.*--once)|metrics --serve"
)
# What is not 0 on this stack, and why.
_EXPECTED = {
    "skyflowctl init": (5, "mounts.yaml is there already"),
    "skyflowctl init && skyflowctl validate": (5, "mounts.yaml is there already"),
    "skyflowctl creds order order-producer --ctx order:ORD-42 --direct": (
        64, "--direct is not for the dev stack"),
    "skyflowctl dev up --persist": (5, "with its data in memory"),
    "skyflowctl audit posture --fail-on high -q": (6, "the setup has findings"),
    "skyflowctl config rollback payment": (5, ""),
    "skyflowctl rotate --rollback payment": (5, ""),
    "skyflowctl plugin rollback": (5, "it is not known which version"),
    "skyflowctl plugin rollback order": (5, "it is not known which version"),
    "skyflowctl plugin rollback --dry-run": (5, "it is not known which version"),
    "skyflowctl consumer rotate order-service --retire -y": (5, "is not shown"),
    # The stack is named by BAO_ADDR here, and there is no keyring.
    "skyflowctl login": (64, "no context is named"),
    "skyflowctl login --method oidc --no-browser": (64, "no context is named"),
    "skyflowctl login --method token --secret file:token": (64, "no context is named"),
    "skyflowctl login --status": (64, "no context is named"),
    "skyflowctl login --context prod --method oidc --role oncall": (5, "OS keyring"),
    "skyflowctl logout": (64, "no context is named"),
    "skyflowctl logout --forget": (64, "no context is named"),
    "skyflowctl plan --context prod": (4, "no token was sent"),
    "skyflowctl consumer check order-ci --jwt file:job.jwt": (64, "has no consumer order-ci"),
}  # fmt: skip


def examples() -> list[str]:
    lines = [
        line for name, *_ in every_command() for line, _ in load(find_command(name)).facts.examples
    ]
    first = [line for line in lines if not any(word in line for word in _LAST)]
    return first + [line for word in _LAST for line in lines if word in line]


def blocks() -> list[str]:
    """The command lines of the first pages' blocks that are about the example and its stack."""
    pages = (REPO / "README.md", *(REPO / "docs" / f"{one}.md" for one in ("rotation", "audit")))
    text = "\n".join(page.read_text() for page in pages)
    found = []
    for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines = [line.split("   #")[0].split("    #")[0].rstrip() for line in block.splitlines()]
        if "$EDITOR" not in block and all(re.match(r"skyflowctl |bao ", one) for one in lines):
            found += lines
    return found


@pytest.fixture(scope="module")
def place():
    with running_stack(apply=True) as stack:
        prepare(stack)
        yield stack


def prepare(stack: Stack) -> None:
    folder = stack.folder
    port = json.loads((stack.dev / "dev.json").read_text())["emulator"]["port"]
    (folder / "token-service").write_text(f"127.0.0.1:{port}")
    (folder / "examples").mkdir(exist_ok=True)
    for name in ("examples/mounts.yaml", "base.yaml", "prod.yaml"):
        (folder / name).write_text(EXAMPLE.read_text())
    (folder / "mounts.yaml").write_text(example_with_consumer("order-service"))
    stack.cli("apply", "-y", exported=True)
    token = stack.cli(
        "creds", "order", "order-producer", "--ctx", "order:ORD-42", "-o", "raw", exported=True
    ).stdout
    for name in ("found", "found.txt"):
        (folder / name).write_text(token)
    stack.cli("rotate", "payment", "--generate", "-y", exported=True)
    server = ("--address", stack.exports["BAO_ADDR"], "--ca-cert", stack.exports["BAO_CACERT"])
    stack.cli("context", "add", "prod", *server)
    keys = folder / "credentials"
    keys.mkdir(exist_ok=True)
    for path in (stack.dev / "credentials").glob("*.json"):
        (keys / path.name).write_text(path.read_text())
        (keys / path.name).chmod(0o600)
    for mount, name in (("payment", "new.json"), ("order", "order.json")):
        account = stack.api("GET", f"skyflow/{mount}/config")["data"]["client_id"]
        (folder / name).write_text(emulator_of(stack).create_key(account).reveal())
        (folder / name).chmod(0o600)
    log = (stack.dev / "logs" / "audit.log").read_text()
    for name in ("audit.log", "logs/audit.log", "a/audit.log", "b/audit.log", "a.log", "b.log",
                 "var/log/openbao/audit.log"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(log)
    for name in ("etc/openbao/plugins", "plugins", ".zfunc", ".config/fish/completions"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def run(stack: Stack, line: str, seconds: float = 60) -> tuple[int, str]:
    at = str(stack.folder)
    for outside in ("/etc/openbao", "/var/log/openbao"):
        line = line.replace(outside, at + outside)
    environ = {**stack.environ, **stack.exports, "HOME": at, "PATH": f"{BIN}:/usr/bin:/bin"}
    environ["SKYFLOWCTL_ALLOW_HOSTS"] = (stack.folder / "token-service").read_text()
    started = subprocess.Popen(
        ["bash", "-c", line],
        env=environ,
        cwd=stack.folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    with started:
        try:
            out, err = started.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)  # the shell alone would leave its commands
            return -1, started.communicate()[1]
    return started.returncode, err + out


def judged(line: str, code: int, told: str) -> str:
    """Why the line did not run as it stands; empty: it did."""
    if code == 0 or (code == -1 and _ENDLESS.search(line) and "error:" not in told):
        return ""
    if code == 5 and "this needs a confirmation" in told:
        return ""
    if re.match(r"skyflowctl approvals (show|approve) ", line):  # its request is long gone
        return "" if code == 64 and "holds no request" in told else f"{line}: {code}\n{told}"
    wanted, text = _EXPECTED.get(line, (0, ""))
    return "" if code == wanted and text in told else f"{line}: {code}\n{told[-600:]}"


def failures(stack: Stack, lines: list[str]) -> list[str]:
    wrong = []
    for line in lines:
        code, told = run(stack, line, 2 if _ENDLESS.search(line) else 60)
        wrong += [why] if (why := judged(line, code, told)) else []
    return wrong


def test_every_help_example_and_readme_block_runs_as_it_stands(place):
    assert len(blocks()) > 10
    assert failures(place, blocks()) == []
    wrong = failures(place, examples())
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line", ['eval "$(skyflowctl dev env)"', 'eval "$(skyflowctl creds order x -o env)"']
)
def test_eval_of_what_failed_fails_with_its_code(tmp_path, line):
    environ = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", f"{line}; echo code $?; echo still here"],
        env=environ, cwd=tmp_path, text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert re.fullmatch(r"code (6|64)\nstill here\n", done.stdout)
    assert "error:" in done.stderr
