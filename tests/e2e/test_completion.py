"""Completion in real shells on a real terminal: names at a TAB, files where they fit, no errors."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.scripted import Answer, scripted
from support.secret_service import PROGRAMS, running_secret_service

TOKEN = "s.a-token-of-a-test"  # noqa: S105 - a test's
SHELLS = {
    "bash": ("bash --norc --noprofile -i", "source <(skyflowctl completion bash)"),
    "zsh": (
        "zsh -f -i",
        "autoload -Uz compinit; compinit -u -D; source <(skyflowctl completion zsh)",
    ),
    "fish": ("fish --no-config -i", "skyflowctl completion fish | source"),
}
SECONDS = 60
pytestmark = pytest.mark.slow


class Shell:
    """A shell on a terminal of its own, with the completion of skyflowctl loaded."""

    def __init__(self, name: str, home: Path, environ: dict[str, str]) -> None:
        command, load = SHELLS[name]
        self._terminal, inner = pty.openpty()
        self._process = subprocess.Popen(
            command.split(), cwd=home, pass_fds=[inner], preexec_fn=lambda: os.login_tty(inner),
            env={
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(home),
                "TERM": "dumb", "LANG": "C.UTF-8", "COLUMNS": "200", **environ,
            },
        )  # fmt: skip
        os.close(inner)
        self._number = 0
        self.run(load)

    def run(self, line: str) -> str:
        """Return what appears from a line's start until it has run."""
        self._number += 1
        mark = f"end{self._number}end"
        self.type(f"{line}; echo e'nd{self._number}e'nd\r")
        return self.read_until(mark)

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def read_until(self, text: str, seconds: float = SECONDS) -> str:
        """Return what appears until a text does; all that came in time if it does not."""
        seen, ends = "", time.monotonic() + seconds
        while text not in seen and (left := ends - time.monotonic()) > 0:
            if select.select([self._terminal], [], [], left)[0]:
                seen += os.read(self._terminal, 1 << 16).decode(errors="replace")
        return seen

    def completes(self, typed: str, expected: str) -> None:
        """Press TAB after ``: typed`` until the line goes on as expected; names may come late."""
        ends, seen = time.monotonic() + SECONDS, ""
        while time.monotonic() < ends:
            self.type(f"{typed}\t")
            seen = self.read_until(expected, 2)
            if expected in seen:
                self.forget_line()
                return
            self.forget_line()
        raise AssertionError(seen)

    def after_tab(self, typed: str) -> str:
        """Return what appears from the first letter of a line until it is given up after a TAB."""
        self.type(f"{typed}\t")
        return self.forget_line()

    def forget_line(self) -> str:
        self.type("\x15")
        return self.run("true")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs(name)) for name in SHELLS])
def shell(request, tmp_path):
    """Return a function that starts each shell in turn, in a folder with a file and no manifest."""
    (tmp_path / "orderfile.json").write_text("{}")
    started = []

    def start(**environ: str) -> Shell:
        started.append(Shell(request.param, tmp_path, environ))
        return started[-1]

    yield start
    for one in started:
        one.close()


def script(seen):
    keys = {"data": {"keys": ["producer", "$(touch planted)"]}}
    mounts = {
        f"skyflow/{name}/": {"type": "skyflow"} for name in ("order", "payment", "`touch planted`")
    }
    return Answer(body=keys if "roles" in seen.path else {"data": {"secret": mounts}})


def test_names_of_a_server_complete_and_files_only_where_they_fit(shell, tmp_path):
    with scripted(Answer()) as server:
        server.script = script
        one = shell(BAO_ADDR=server.address, BAO_TOKEN=TOKEN)
        one.completes("skyflowctl creds pay", "payment")
        one.completes("skyflowctl role show --output json payment pro", "producer")
        one.completes("skyflowctl plan --replace-credential=pay", "payment")
        one.completes("skyflowctl plan --output=js", "json")
        one.completes("skyflowctl plan -f orderf", "orderfile.json")
        one.completes("skyflowctl apply orderf", "orderfile.json")
        one.completes("skyflowctl audit who orderf", "orderfile.json")
        for line in ("health", "plan --namespace", "audit who --app", "approvals show"):
            assert "orderfile" not in one.after_tab(f"skyflowctl {line} orderf")
    assert not (tmp_path / "planted").exists()


def test_no_error_reaches_the_terminal(shell, tmp_path):
    (tmp_path / ".config/skyflowctl").mkdir(parents=True)
    (tmp_path / ".config/skyflowctl/contexts.json").write_text("{ damaged")
    (tmp_path / "mounts.yaml").write_text("mounts: [")
    one = shell(BAO_ADDR="http://127.0.0.1:1", BAO_TOKEN=TOKEN)
    for line in ("creds ", "role show a ", "context use ", "approvals show "):
        seen = one.after_tab(f"skyflowctl {line}").lower()
        assert not [word for word in ("error", "traceback", "damaged", "because") if word in seen]


def test_a_tab_waits_no_longer_than_300_ms(shell, tmp_path):
    """A silent server: the wait is measured against one for a name that asks nobody."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        one = shell(BAO_ADDR=address, BAO_TOKEN=TOKEN)
        waits = []
        for _ in range(5):
            begun = time.monotonic()
            one.after_tab("skyflowctl creds pay")
            asked = time.monotonic() - begun
            begun = time.monotonic()
            one.after_tab("skyflowctl creds order producer x")
            waits.append(asked - (time.monotonic() - begun))
    assert min(waits) < 0.3


STORE = """
import sys
from skyflowctl.cli.context.logins import login_store
from skyflowctl.credentials.schemes import keyring
from skyflowctl.secret import Secret
from skyflowctl.vault.login_store import LoginRecord
from skyflowctl.vault.pending_store import SERVICE, StoredRequest, encode_entries

address, token = sys.argv[1:]
record = LoginRecord("prod", address, "", "a-cluster", "a", "alice", (), "token", True, False, 0, "")
login_store().save(record, Secret(token))
texts = ["PUT", "sys/mounts/x", "", "", "", "", "run", "", "a-cluster", "2100-01-01T00:00:00Z"]
parked = StoredRequest(Secret("hvs.wrapping"), "Acc1", *texts)
keyring.store(SERVICE, "a-cluster", Secret(encode_entries([parked])))
"""


@pytest.mark.needs(*PROGRAMS)
def test_a_login_in_an_unlocked_keyring_is_used_at_its_cluster_alone(tmp_path):
    cluster = {"cluster_id": "a-cluster"}

    def answer(seen):
        return Answer(body=cluster) if "health" in seen.path else script(seen)

    def called(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], env=environ, cwd=tmp_path, capture_output=True, text=True,
            check=True, timeout=60,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout

    def named(spec: str, word: str = "") -> str:
        return called("-m", "skyflowctl", "__complete", spec, word)

    with scripted(Answer()) as server, running_secret_service(tmp_path) as service:
        server.script = answer
        environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **service}
        called("-m", "skyflowctl", "context", "add", "prod", "--address", server.address, "--use",
               "-y", "-q")  # fmt: skip
        called("-c", STORE, server.address, TOKEN)
        for spec, expected in (("mount", "order\npayment\n"), ("accessor", "Acc1\n")):
            ends = time.monotonic() + SECONDS
            while (found := named(spec)) != expected:
                assert time.monotonic() < ends, found
        cache = (tmp_path / ".cache/skyflowctl/completion.json").read_text()
        assert not [one for one in (TOKEN, "hvs.wrapping") if one in cache]
        cluster["cluster_id"] = "another"
        before = len(server.seen)
        while len(server.seen) == before:
            assert named("mount", "skyflow/") == ""
        assert not [one for one in server.seen[before:] if "x-vault-token" in one.headers]
