"""``exec`` and ``token-file`` on the dev stack: real programs, signals, sockets and files."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.plugin import wait_for
from support.stack import BIN, REPO, Stack, running_stack

from skyflowctl.skyflow.emulator import jwt

pytestmark = pytest.mark.real_server

ROLE = ("order", "order-consumer-analytics")
ASK = (
    "import http.client,json,os,socket\n"
    "def ask(path):\n"
    "    link=http.client.HTTPConnection('localhost')\n"
    "    link.sock=socket.socket(socket.AF_UNIX); link.sock.connect(path)\n"
    "    link.request('GET','/'); reply=link.getresponse()\n"
    "    return reply.status, json.loads(reply.read())\n"
)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(apply=True) as running:
        yield running


@contextlib.contextmanager
def hasty(stack: Stack, *words: str, **more: object) -> Iterator[subprocess.Popen[str]]:
    """Skyflowctl with quick refreshes; killed at the end if it still runs."""
    started = subprocess.Popen(
        [sys.executable, "-m", "support.hasty", "--", *words],
        env={**stack.environ, **stack.exports, "PYTHONPATH": str(REPO / "tests")},
        cwd=stack.folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **more,
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)  # also the program, which holds the pipes
        started.communicate()


def script(stack: Stack, name: str, text: str) -> Path:
    path = stack.folder / name
    path.write_text(text)
    return path


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def test_the_program_has_the_token_and_its_exit_code_is_the_result(stack):
    line = 'printf "%s %s" "$SKYFLOW_BEARER_TOKEN" "$SKYFLOW_BEARER_EXPIRES_AT"; exit 7'
    done = stack.cli("exec", *ROLE, "--", "sh", "-c", line, exported=True, check=7)
    token, expires_at = done.stdout.split()
    assert jwt.split_token(token).claims["exp"] > time.time() + 3000
    assert expires_at.endswith("Z")
    assert done.stderr == ""


@pytest.mark.parametrize("how", [(), ("--watch",)])
def test_no_signal_is_ignored_by_the_program(stack, how):
    done = stack.cli(
        "exec", *ROLE, *how, "--", "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status", exported=True
    )
    masks = [int(line.split()[1], 16) for line in done.stdout.splitlines()]
    # posix_spawn of glibc ignores 32 and 33, which belong to its threads.
    assert [mask & 0x7FFFFFFF for mask in masks] == [0, 0]


def test_a_program_that_a_signal_ended_has_the_shells_code(stack):
    for how in ((), *[("--watch",)] * 5):  # it ends at once, while the first read's thread ends
        words = ("exec", *ROLE, *how, "--", "sh", "-c", "kill -KILL $$")
        assert stack.cli(*words, exported=True, check=None).returncode in {-9, 137}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((*ROLE, "--", "no-such-program"), "no-such-program"),
        (("order", "nobody", "--", "true"), "no-such-role"),
        ((*ROLE, "--signal", "HUP", "--", "true"), "usage"),
        ((*ROLE, "--watch", "--serve", "unix:run/a", "--signal", "X", "--", "true"), "usage"),
        ((*ROLE, "--watch", "--serve", "unix:run/a", "--signal", "KILL", "--", "true"), "usage"),
        ((*ROLE, "--serve", "run/a", "--", "true"), "bad-socket"),
        ((*ROLE, "--serve", "unix:mounts.yaml", "--", "true"), "bad-socket"),
        ((*ROLE, "--serve", f"unix:{'x' * 108}", "--", "true"), "bad-socket"),
        ((*ROLE, "--watch", "--token-file", "-", "--", "true"), "usage"),
    ],
)
def test_what_cannot_be_run_is_a_usage_error_in_an_envelope(stack, words, code):
    at = words.index("--")
    done = stack.cli("exec", *words[:at], "-o", "json", *words[at:], exported=True, check=64)
    refused = json.loads(done.stdout)
    assert [one["code"] for one in refused["errors"]] == [code]


def test_a_socket_in_a_folder_of_others_is_refused(stack):
    open_to_all = stack.folder / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o755)
    done = stack.cli("exec", *ROLE, "--serve", "unix:open/s", "--", "true", exported=True, check=64)
    assert "others may enter its folder" in done.stderr
    assert stat.S_IMODE(open_to_all.stat().st_mode) == 0o755


def test_watch_starts_the_program_again_and_passes_sigterm_on(stack):
    seen = stack.folder / "seen"
    text = (
        'trap "exit 9" TERM; trap : HUP; '
        f'echo "$SKYFLOW_BEARER_TOKEN" >> {seen}; while :; do sleep 0.05; done'
    )
    with hasty(stack, "exec", *ROLE, "--watch", "--", "sh", "-c", text) as run:
        wait_for(lambda: len(lines(seen)) >= 1)
        run.send_signal(signal.SIGHUP)  # a program that goes on after it still gets new tokens
        wait_for(lambda: len(set(lines(seen))) >= 4)
        run.terminate()
        assert run.wait(20) == 9
        assert "started again" in run.stderr.read()


def test_a_program_that_does_not_stop_is_killed_and_started_again(stack):
    seen = stack.folder / "stubborn"
    text = f'trap "" TERM; echo "$SKYFLOW_BEARER_TOKEN" >> {seen}; while :; do sleep 0.05; done'
    with hasty(stack, "exec", *ROLE, "--watch", "--", "sh", "-c", text) as run:
        wait_for(lambda: len(set(lines(seen))) >= 2)
        run.send_signal(signal.SIGINT)  # passed on, and it ends the program: it is not trapped
        assert run.wait(20) in {130, 137}  # unless it was just being killed


def test_other_signals_reach_the_program_once(stack):
    seen = stack.folder / "usr1"
    text = f'trap "echo got >> {seen}" USR1; echo up >> {seen}; trap "exit 0" TERM; while :; do sleep 0.05; done'
    with hasty(stack, "exec", *ROLE, "--serve", "unix:run/u", "--", "sh", "-c", text) as run:
        wait_for(lambda: lines(seen) == ["up"])
        run.send_signal(signal.SIGUSR1)
        wait_for(lambda: lines(seen) == ["up", "got"])
        run.terminate()
        assert run.wait(20) == 0
    assert lines(seen) == ["up", "got"]


def test_ctrl_c_of_a_terminal_reaches_the_program_once(stack):
    seen = stack.folder / "int"
    text = f'trap "echo int >> {seen}" INT; echo up >> {seen}; trap "exit 5" USR2; while :; do sleep 0.05; done'
    command = [str(BIN / "skyflowctl"), "exec", *ROLE, "--watch", "--", "bash", "-c", text]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(stack.folder)
        os.execve(command[0], command, {**stack.environ, **stack.exports})
    try:
        wait_for(lambda: lines(seen) == ["up"])
        os.write(terminal, b"\x03")
        wait_for(lambda: "int" in lines(seen))
        os.kill(pid, signal.SIGUSR2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)
    assert lines(seen) == ["up", "int"]


def test_the_socket_answers_fresh_tokens_and_ends_with_the_program(stack):
    path, seen = stack.folder / "run" / "fresh", stack.folder / "fresh.out"
    program = script(
        stack,
        "ask.py",
        ASK + "import time\n"
        f"out=open({str(seen)!r},'a')\n"
        "tokens=set()\n"
        "while len(tokens)<3:\n"
        "    status,answer=ask(os.environ['SKYFLOW_BEARER_SOCKET'])\n"
        "    assert status==200 and answer['ttl']>3000, answer\n"
        "    tokens.add(answer['access_token']); time.sleep(0.05)\n"
        f"print(oct(os.stat({str(path)!r}).st_mode)[-3:], file=out)\n",
    )
    with hasty(
        stack, "exec", *ROLE, "--serve", f"unix:{path}", "--", sys.executable, str(program)
    ) as run:
        assert run.wait(40) == 0, run.stderr.read()
    assert lines(seen) == ["600"]
    assert not path.exists()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_signal_takes_the_place_of_a_new_start(stack):
    seen = stack.folder / "hup"
    text = f'trap "echo hup >> {seen}" HUP; echo up >> {seen}; trap "exit 0" TERM; while :; do sleep 0.05; done'
    words = ("--watch", "--serve", "unix:run/h", "--signal", "hup")
    with hasty(stack, "exec", *ROLE, *words, "--", "sh", "-c", text) as run:
        wait_for(lambda: lines(seen).count("hup") >= 2)
        run.terminate()
        assert run.wait(20) == 0
    assert lines(seen).count("up") == 1


def test_a_token_file_is_written_once(stack):
    done = stack.json("token-file", *ROLE, "--path", "once", "--once")["data"]
    path = Path(done["path"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert jwt.split_token(path.read_text().rstrip("\n")).claims["exp"] > time.time()
    for wrong in ("", "-"):
        stack.json("token-file", *ROLE, "--path", wrong, "--once", check=64)
    refused = stack.json("token-file", *ROLE, "--path", "none/at/all", "--once", check=64)
    assert [one["code"] for one in refused["errors"]] == ["unusable-file"]


@pytest.mark.parametrize("kind", ["device", "pipe", "link", "text"])
@pytest.mark.parametrize(
    "words", [("token-file", *ROLE, "--once", "--path"), ("metrics", "--textfile")]
)
def test_what_is_no_earlier_output_is_not_replaced(stack, tmp_path, kind, words):
    path = tmp_path / "there"
    made = {
        "device": lambda: path.symlink_to("/dev/full"),
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to(stack.folder / "mounts.yaml"),
        "text": lambda: path.write_text("precious\n"),
    }
    made[kind]()
    before = path.lstat()
    refused = stack.json(*words, str(path), check=5)
    assert [one["code"] for one in refused["errors"]] == ["output-in-the-way"]
    assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_an_earlier_output_is_replaced(stack, tmp_path):
    for words in (("token-file", *ROLE, "--once", "--path"), ("metrics", "--textfile")):
        path = tmp_path / words[0]
        path.touch()
        for _ in range(2):
            stack.json(*words, str(path))
        assert path.stat().st_size > 0


def test_a_token_file_is_kept_fresh_until_stopped(stack):
    path, found = stack.folder / "kept", set()
    with hasty(stack, "token-file", *ROLE, "--path", str(path), "-o", "json") as run:

        def another() -> bool:
            if path.exists():
                text = path.read_text()
                assert text.endswith("\n")
                found.add(text)
            return len(found) >= 3

        wait_for(another)
        run.terminate()
        out, _ = run.communicate(timeout=20)
    events = [json.loads(line) for line in out.splitlines()]
    assert run.returncode == 143
    assert {one["type"] for one in events[1:-1]} == {"token_written"}
    assert (events[0]["type"], events[-1]["type"]) == ("version", "result")
    assert len(events) >= 4  # the signal may arrive after the third file and before its event
    assert path.exists()
    assert list(path.parent.glob(".kept*")) == []


def test_no_token_is_on_a_command_line_or_in_the_output(stack):
    with hasty(stack, "exec", *ROLE, "--watch", "--", "sleep", "30") as run:
        found: list[str] = []

        def has_token() -> bool:  # a new child still has the environment of its parent
            found[:] = tokens_of_children(run.pid)
            return bool(found)

        wait_for(has_token)
        words, token = Path(f"/proc/{run.pid}/cmdline").read_text(), found[0]
        run.terminate()
        assert run.wait(20) == 143
        assert token not in words + run.stdout.read() + run.stderr.read()


def tokens_of_children(pid: int) -> list[str]:
    """The tokens in the environments of a process's children."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{child}/environ").read_text().split("\0")
            name = "SKYFLOW_BEARER_TOKEN="
            found += [word.removeprefix(name) for word in words if word.startswith(name)]
    return found
