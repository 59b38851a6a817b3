"""No command shows a secret: every output, log and file is searched for every known one."""

from __future__ import annotations

import base64
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from support.bao import BaoServer, running_bao
from support.emulator import RunningEmulator
from support.leak_calls import CALLS, WRONG_CTX, Call, calls, dev
from support.leaks import Needle, find_leaks, needle
from support.plugin import register_skyflow
from support.stack import EXAMPLE, REPO, Stack, example_with_consumer, running_stack

from skyflowctl.cli.registry import COMMANDS

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

OPERATOR = "secrets/operator.token"
# Decisions of skyflowctl; 1 is a fault of its own and no way to fail.
DECISIONS = {3, 4, 5, 6, 64, 65, 69}
WRONG_TOKEN = "wrong-token-0123456789abcdef-0123456789"
_MINTED = re.compile(r"[\w-]{20,}\.[\w-]{20,}\.[\w-]{20,}|\bs\.[A-Za-z0-9]{20,}")
_MANIFEST = """version: 1
manifest: own
mounts:
  ledger:
    credentials: {%s}
    roles: {reader: {role_ids: [role-1]}}
"""


@dataclass
class Bench:
    """A dev stack, and beside it a server that gets a real credential from a file."""

    stack: Stack
    server: BaoServer
    host: str
    credential: str = field(repr=False)

    def run(self, call: Call, **env: str) -> tuple[str, str]:
        """Standard output and standard error of one call, which ends as it should."""
        plugins = self.stack.dev / "plugins"
        launcher = next(plugins.glob("other-*"), plugins / "other")
        paths = {"plugins": str(plugins), "launcher": str(launcher), "host": self.host}
        paths["log"] = str(self.stack.dev / "logs" / "audit.log")
        paths |= {"operator": str(self.stack.dev / OPERATOR)}
        paths |= {"address": self.stack.exports["BAO_ADDR"], "ca": self.stack.exports["BAO_CACERT"]}
        words = [word.format_map(paths) if "{" in word else word for word in call.words]
        at_own = self.own_environ() if call.where == "own" else {}
        at_dev = call.where != "own"
        done = self.stack.cli(*words, check=None, exported=at_dev, env={**at_own, **env})
        good = done.returncode == 0 if call.good else done.returncode in DECISIONS
        assert good, f"{call}: {done.returncode}\n{done.stdout[-900:]}\n{done.stderr[-900:]}"
        return done.stdout, done.stderr

    def own_environ(self) -> dict[str, str]:
        return {
            "BAO_ADDR": self.server.address,
            "BAO_TOKEN": self.server.token,
            "BAO_CACERT": str(self.server.ca),
            "SSL_CERT_FILE": str(self.server.folder / "both.pem"),
        }

    def secrets(self) -> list[Needle]:
        """Everything that no output, log or file may hold."""
        found = [needle("own server's token", self.server.token), needle("wrong", WRONG_TOKEN)]
        found += credential_needles("own credential", self.credential)
        for path in sorted((self.stack.dev / "credentials").glob("*.json")):
            found += credential_needles(path.name, path.read_text())
        secret_files = [OPERATOR, "secrets/unseal.key", "tls/server.key"]
        secret_files += ["secrets/skyflow-operator.token", "emulator/control-token"]
        secret_files += ["emulator/signing-key.pem"]
        for name in secret_files:
            found.append(needle(name, (self.stack.dev / name).read_text().strip()))
        return found

    def files(self) -> dict[str, bytes]:
        """Every file that either server or skyflowctl wrote, the listed secret ones excepted."""
        generated = {
            str(path.relative_to(self.stack.dev)): path.read_bytes()
            for path in self.stack.dev.rglob("*")
            if path.is_file() and not listed_secret(self.stack, path)
        }
        own = {"own audit.log": self.server.audit_log.read_bytes()}
        return generated | own | {"own log": (self.server.folder / "server.log").read_bytes()}


def credential_needles(name: str, text: str) -> list[Needle]:
    return [needle(name, json.loads(text)["privateKey"]), needle(f"whole {name}", text.strip())]


def listed_secret(stack: Stack, path: Path) -> bool:
    """SECURITY.md lists these as the dev stack's own secret files."""
    parts = path.relative_to(stack.dev).parts
    return parts[0] in {"secrets", "credentials", "emulator"} or parts == ("tls", "server.key")


def write_manifests(folder: Path, credential: str) -> None:
    """A manifest with a real credential, one that holds a key, and one with a broken file."""
    folder.mkdir()
    (folder / "mounts.yaml").write_text(_MANIFEST % "file: ledger.json")
    (folder / "broken.yaml").write_text(_MANIFEST % "file: broken.json")
    exec_reference = f"exec: [/bin/cat, {folder / 'ledger.json'}]"
    (folder / "exec.yaml").write_text(_MANIFEST % exec_reference)
    tells = f"exec: [/bin/sh, -c, 'cat {folder / 'ledger.json'} >&2; cat {folder / 'broken.json'}']"
    (folder / "tells.yaml").write_text(_MANIFEST % tells)
    (folder / "vault.yaml").write_text(
        _MANIFEST % "vault: {path: leak-kv/ledger, field: credential}"
    )
    (folder / "consumers.yaml").write_text(example_with_consumer("leak-app"))
    key = json.loads(credential)["privateKey"]
    (folder / "bad.yaml").write_text(_MANIFEST % f"file: {json.dumps(key)}")
    # Another key id, and its text is cut in the middle: no parser may quote what is left.
    cut = {"keyID": "b" * 32, "privateKey": key[:700] + key[760:]}
    broken = json.dumps({**json.loads(credential), **cut})
    secret_files = {"ledger.json": credential, "broken.json": broken, "wrong-token": WRONG_TOKEN}
    for name, text in secret_files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)


@pytest.fixture(scope="module")
def bench(emulator: RunningEmulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    credential = emulator.new_account("role-1")
    # A keyring, whose file is searched by nobody, for the token of a login.
    ring = {
        "PYTHONPATH": str(REPO / "tests"),
        "PYTHON_KEYRING_BACKEND": "support.file_keyring.FileKeyring",
        "TEST_KEYRING_FILE": str(tmp_path_factory.mktemp("ring") / "keyring.json"),
    }
    with running_stack(EXAMPLE, apply=True, environ=ring) as stack, running_bao() as server:
        write_manifests(stack.folder / "own", credential)
        stack.cli("apply", "-y", "-f", "own/consumers.yaml", exported=True)
        both = server.ca.read_bytes() + emulator.ca.read_bytes()
        (server.folder / "both.pem").write_bytes(both)
        register_skyflow(
            server,
            args=["--allow-host", emulator.host],
            env=[f"SSL_CERT_FILE={emulator.ca}"],
        )
        mounted = server.api("POST", "sys/mounts/leak-kv", {"type": "kv"})
        assert mounted[0] == 204
        kept = server.api("POST", "leak-kv/ledger", {"credential": credential})
        assert kept[0] == 204
        yield Bench(stack, server, emulator.host, credential)


def collect(bench: Bench, listed: list[Call], **env: str) -> list[str]:
    """Run the calls; then search all outputs and files for all secrets known by then.

    Every token that a call prints is a secret to every other text. The result names
    each find but those that a call is there to show.
    """
    needles = bench.secrets()
    texts: dict[str, bytes] = {}
    allowed: set[str] = set()
    for call in listed:
        stdout, stderr = bench.run(call, **env)
        texts |= {f"{call.name} stdout": stdout.encode(), f"{call.name} stderr": stderr.encode()}
        if call.shown == "operator":
            allowed.add(f"{call.name} stdout: {OPERATOR}")
        elif call.shown == "token":
            tokens = sorted(set(_MINTED.findall(stdout)))
            assert len(tokens) == 1, f"{call.name}: {len(tokens)} tokens"
            needles.append(needle(f"token of {call.name}", tokens[0]))
            allowed.add(f"{call.name} stdout: token of {call.name}")
    found = set(find_leaks(texts | bench.files(), needles))
    assert allowed <= found, "a call that shows its secret was not found: the search is blind"
    return sorted(found - allowed)


def test_every_command_is_called_here_in_a_good_and_a_bad_way() -> None:
    assert set(CALLS) == {row.name for row in COMMANDS}
    for name, listed in CALLS.items():
        really = [call for call in listed if call.words[: len(name.split())] == (*name.split(),)]
        # A request must be parked for a good one: e2e/test_approvals_review looks at its output.
        wanted = {False} if name in {"approvals show", "approvals approve"} else {True, False}
        assert {call.good for call in really} == wanted, name
        assert not [call for call in listed if "--help" in call.words]


@pytest.mark.timeout(900)
def test_no_secret_is_anywhere(bench: Bench) -> None:
    assert collect(bench, calls("dev", "own")) == []
    files = bench.files()
    assert {"logs/audit.log", "logs/openbao.log", "logs/emulator.log"} <= set(files)
    # The secrets really went that way: the own server's engine minted with them.
    assert b"skyflow/ledger/creds/reader" in files["own audit.log"]
    hidden = Needle("ctx", frozenset({WRONG_CTX.encode()}), frozenset())
    logs = {name: text for name, text in files.items() if name.startswith("logs/")}
    assert find_leaks(logs, [hidden]) == []


@pytest.mark.timeout(480)
def test_the_end_of_a_stack_shows_nothing(bench: Bench) -> None:
    with running_stack(EXAMPLE) as stack:
        ending = Bench(stack, bench.server, bench.host, bench.credential)
        down = [call for call in calls("last") if call.words[:2] != ("dev", "reset")]
        assert collect(ending, down) == []
        needles = ending.secrets()
        reset = [call for call in calls("last") if call.words[:2] == ("dev", "reset")]
        outputs = {call.name: "".join(ending.run(call)).encode() for call in reset}
        assert find_leaks(outputs, needles) == []
        assert not stack.dev.exists()


def test_argv_of_running_processes_holds_no_secret(bench: Bench) -> None:
    lines = {
        str(process.pid): "\0".join(process.info["cmdline"] or ()).encode()
        for process in psutil.process_iter(["cmdline"])
    }
    assert find_leaks(lines, bench.secrets()) == []


@pytest.mark.parametrize(
    ("part", "name"),
    [("secrets/operator.token", OPERATOR), ("emulator/control-token", "emulator/control-token")],
)
def test_a_leak_planted_in_a_log_fails_the_search(bench: Bench, part: str, name: str) -> None:
    log = bench.stack.dev / "logs" / "emulator.log"
    planted = f"time=1 msg={(bench.stack.dev / part).read_text().strip()} end\n".encode()
    with log.open("ab") as stream:
        stream.write(planted)
    try:
        found = collect(bench, [dev("version"), dev("dev", "logs", "emulator", "-n", "5000")])
    finally:
        log.write_bytes(log.read_bytes().replace(planted, b""))
    assert found == [f"dev: dev logs emulator -n 5000 stdout: {name}", f"logs/emulator.log: {name}"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_leak_planted_in_an_output_fails_the_search(
    bench: Bench, tmp_path: Path, stream: str
) -> None:
    """Also where a token is shown: no other secret may stand beside it."""
    key = json.loads(bench.credential)["privateKey"].splitlines()[9]
    plant = f"import atexit, sys\natexit.register(lambda: print('x={key}', file=sys.{stream}))\n"
    (tmp_path / "sitecustomize.py").write_text(plant)
    [shows] = [call for call in calls("dev") if call.words[-2:] == ("-o", "raw")]
    found = collect(bench, [shows, dev("version")], PYTHONPATH=str(tmp_path))
    assert found == [
        f"{shows.name} {stream}: own credential",
        f"dev: version {stream}: own credential",
    ]


def _wrapped(key: str, width: int, before: Mapping[str, str] | None = None) -> str:
    text = json.dumps({**before, "privateKey": key}) if before else key
    return "\n".join(textwrap.wrap(base64.b64encode(text.encode()).decode(), width))


@pytest.mark.parametrize(
    "disguise",
    [
        lambda key: key,
        lambda key: json.dumps({"k": key}),
        lambda key: base64.b64encode(b"x" + key.encode()).decode(),
        lambda key: key.splitlines()[5][7:40],
        lambda key: key.replace("\n", " \n      "),
        lambda key: json.dumps(json.dumps(key)),
        lambda key: _wrapped(key, 64),
        lambda key: _wrapped(key, 76).replace("\n", "\r\n    "),
        lambda key: _wrapped(key, 76).splitlines()[7],
        lambda key: _wrapped(key, 5000, {"clientID": "c" * 32}),
        lambda key: _wrapped(key, 76, {"clientID": "c" * 33}),
        lambda key: json.dumps(_wrapped(key, 20)),
        lambda key: "".join(key.splitlines()[1:-1])[300:330],
    ],
)
def test_a_key_is_found_in_every_disguise(service_account_text: str, disguise) -> None:
    key = json.loads(service_account_text)["privateKey"]
    planted = {"log": f"time=1 msg={disguise(key)} end".encode()}
    assert find_leaks(planted, [needle("key", key)]) == ["log: key"]
