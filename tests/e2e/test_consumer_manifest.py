"""The printed texts with what reads them: bao agent, bao proxy, a shell, Python, Node, Java, Go."""

from __future__ import annotations

import configparser
import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme
import yaml
from support.bao import free_port_pair
from support.identity import Issuer, client_certificate
from support.recipes import LANGUAGES, running_recipe
from support.stack import BIN, Stack, running_stack

from skyflowctl.client.airflow import AirflowSecretsBackend

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

MANIFEST = """\
version: 1
manifest: snippets-test
mounts:
  order:
    credentials: {file: credentials/order.json}
    roles:
      producer:
        role_ids: [skyflow-role-order-prod]
        ctx: {required: true, pattern: "order:*", probe: "order:probe"}
        consumers:
          approle: {order-service: {}}
          gitlab: {order-job: &job {preset: gitlab, project_path: shop/order, ref: main,
                                    audience: "https://bao.shop.example"}}
      reader:
        role_ids: [skyflow-role-order-read]
        consumers:
          approle: {order-service: {}}
          gitlab: {order-job: *job}
          cert: {order-edge: {common_names: [edge.shop.example]}}
auth:
  approle: {}
  cert: {certificate: {file: clients-ca.pem}}
  gitlab:
    type: jwt
    jwt_validation_pubkeys: [{file: issuer.pub}]
    bound_issuer: https://gitlab.shop.example
"""
# Whatever is glued and not quoted breaks in HCL, in Go's templates, or in JSON.
CTX = "order:a\"b\\c'd #e {{ .X }} ${y} $Z; `id` @f=1 ü"
ISSUER = Issuer()
AUTHORITY = trustme.CA()
TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(None) as running:
        (running.folder / "mounts.yaml").write_text(MANIFEST)
        (running.folder / "issuer.pub").write_text(ISSUER.public)
        AUTHORITY.cert_pem.write_to_path(str(running.folder / "clients-ca.pem"))
        running.cli("apply", "-y", exported=True)
        yield running


@pytest.fixture
def login(stack: Stack, tmp_path: Path) -> Path:
    """A folder with the role id and the secret id of the consumer."""
    made = stack.json("consumer", "issue", "order-service")["data"]
    unwrapped = subprocess.run(
        [str(BIN / "bao"), "unwrap", "-field=secret_id"],
        env={**stack.environ, **stack.exports, "BAO_TOKEN": made["wrap_token"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (tmp_path / "role-id").write_text(made["role_id"])
    (tmp_path / "secret-id").write_text(unwrapped.stdout.strip())
    return tmp_path


def snippet(stack: Stack, program: str, *words: str, name: str = "order-service") -> str:
    address = ("--address", stack.exports["BAO_ADDR"])
    done = stack.cli("consumer", "manifest", name, "--for", program, *address, *words)
    assert done.stderr == ""
    return done.stdout


@contextlib.contextmanager
def running(stack: Stack, program: str, config: str, folder: Path) -> Iterator[Path]:
    """Run ``bao agent`` or ``bao proxy`` with the printed file; yield its log."""
    file, log = folder / f"{program}.hcl", folder / f"{program}.log"
    file.write_text(re.sub(r"/(etc|run)/order-(service|job|edge)", str(folder), config))
    environ = {**stack.environ, "BAO_CACERT": stack.exports["BAO_CACERT"], "HOME": str(folder)}
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(BIN / "bao"), program, f"-config={file}", "-log-level=trace"],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            yield log
        finally:
            process.terminate()
            process.wait(timeout=30)


def waited(look: Callable[[], Any], log: Path) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.parametrize(
    "words", [("--role", "order/producer", "--ctx", CTX), ("--role", "order/reader")]
)
def test_the_agent_keeps_a_token_in_a_file_and_asks_again_after_the_interval(stack, login, words):
    target = login / "skyflow-token"
    with running(stack, "agent", snippet(stack, "agent", *words), login) as log:
        waited(lambda: True if target.exists() and target.read_text() else None, log)
        slept = waited(lambda: re.search(r"set sleep for (\S+)", log.read_text()), log)
    assert TOKEN.fullmatch(target.read_text())
    assert target.stat().st_mode & 0o777 == 0o600
    minutes, _ = slept[1].split("m")
    assert 35 <= int(minutes) <= 45  # 90 % of 45 minutes, with the agent's jitter


def test_the_proxy_logs_in_for_a_caller_without_a_token(stack, login):
    port = free_port_pair()
    config = snippet(stack, "proxy", "--role", "order/producer", "--ctx", CTX)
    comments = [line.removeprefix("#").strip() for line in config.splitlines()]
    url = next(one for one in comments if one.startswith("POST ")).removeprefix("POST ")
    body = json.dumps(json.loads(next(one for one in comments if one.startswith("{"))))

    def ask(**headers: str) -> dict | None:
        address = url.replace(":8100", f":{port}")
        request = urllib.request.Request(address, data=body.encode(), headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            if error.code in (412, 403):
                return {"refused": error.code}
            raise
        except (urllib.error.URLError, ConnectionError):
            return None

    with running(stack, "proxy", config.replace(":8100", f":{port}"), login) as log:
        answer = waited(lambda: ask(**{"X-Vault-Request": "true"}), log)
        without = waited(ask, log)
    assert TOKEN.fullmatch(answer["data"]["access_token"])
    assert answer["lease_duration"] == 0
    assert "refused" in without


@pytest.mark.parametrize("name", ["order-job", "order-edge"])
def test_the_agent_logs_in_by_jwt_and_by_certificate(stack, tmp_path, name):
    (tmp_path / "jwt").write_text(ISSUER.gitlab())
    both = client_certificate(AUTHORITY, tmp_path, "edge.shop.example").read_text()
    for file in ("client.pem", "client.key"):
        (tmp_path / file).write_text(both)
    target = tmp_path / "skyflow-token"
    config = snippet(stack, "agent", "--role", "order/reader", name=name)
    with running(stack, "agent", config, tmp_path) as log:
        waited(lambda: True if target.exists() and target.read_text() else None, log)
    assert TOKEN.fullmatch(target.read_text())


def test_the_script_of_the_gitlab_job_reads_a_token(stack, tmp_path):
    words = ("--role", "order/producer", "--ctx", CTX)
    (job,) = yaml.safe_load(snippet(stack, "gitlab", *words, name="order-job")).values()
    given = {
        name: one if isinstance(one, str) else one["value"]
        for name, one in job["variables"].items()
    }
    environ = {
        **stack.environ, **given, "HOME": str(tmp_path), "BAO_CACERT": stack.exports["BAO_CACERT"],
        "VAULT_ID_TOKEN": ISSUER.gitlab(),
    }  # fmt: skip
    script = "\n".join(["set -eo pipefail", *job["script"], 'printf %s "$SKYFLOW_BEARER_TOKEN"'])
    done = subprocess.run(
        ["bash", "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert TOKEN.fullmatch(done.stdout)


@pytest.mark.needs("node", "javac", "go")
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_recipe_logs_in_and_reads_a_token(stack, login, language):
    words = ("--role", "order/producer", "--ctx", CTX)
    text = snippet(stack, language, *words).replace("/etc/order-service/", f"{login}/")
    with running_recipe(language, text, login, Path(stack.exports["BAO_CACERT"])) as source:
        first, second, other, refused = source.tokens(CTX, CTX, "order:2", "payment:1")
    assert first == second
    assert all(TOKEN.fullmatch(one) for one in (first, other)), (first, other)
    assert [claims(one)["ctx"] for one in (first, other)] == [CTX, "order:2"]
    assert refused.startswith("error: ")
    assert "permission denied" in refused  # the login's policy has the pattern of the ctx


def test_the_python_module_reads_a_token_with_the_library(stack, login):
    words = ("--role", "order/producer", "--ctx", CTX)
    text = snippet(stack, "python", *words).replace("/etc/order-service/", f"{login}/")
    (login / "token_source.py").write_text(text)
    code = (
        "from token_source import token\n"
        "import sys\n"
        "first, second, other = token(sys.argv[1]), token(sys.argv[1]), token('order:2')\n"
        "assert first == second\n"
        "print(first, other)\n"
        "try:\n    token('payment:1')\n"
        "except Exception as error:\n    print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, CTX],
        cwd=login,
        env={**stack.environ, "BAO_CACERT": stack.exports["BAO_CACERT"], "PYTHONPATH": str(login)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, other, refused = done.stdout.split()
    assert [claims(one)["ctx"] for one in (first, other)] == [CTX, "order:2"]
    assert refused == "PermissionDeniedError"


def test_airflow_reads_a_token_with_its_settings(stack, login, monkeypatch):
    words = ("--role", "order/producer", "--ctx", CTX)
    text = snippet(stack, "airflow", *words).replace("/etc/order-service/", f"{login}/")
    settings = configparser.ConfigParser()
    settings.read_string(text)
    monkeypatch.setenv("BAO_CACERT", stack.exports["BAO_CACERT"])
    backend = AirflowSecretsBackend(**json.loads(settings["secrets"]["backend_kwargs"]))
    try:
        token = backend.get_variable(key="skyflow_token")
        assert backend.get_variable(key="other") is None
    finally:
        backend._source.close()
    assert claims(token)["ctx"] == CTX


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})
