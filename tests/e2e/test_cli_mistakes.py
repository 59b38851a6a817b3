"""Ordinary mistakes on the command line against a real server: the same code everywhere."""

from __future__ import annotations

import pytest
from support.bao import BaoServer
from support.cli import checked_data, checked_envelope, invoke
from support.plugin import build_from, copy_source

from skyflowctl.version import semver

KINDS = {"kv1": ("-version=1", "kv"), "kv2": ("-version=2", "kv")}


@pytest.fixture(scope="module")
def env(bao: BaoServer):
    """The environment of a login, on a server with two mounts of another kind."""
    for name, words in KINDS.items():
        bao.bao("secrets", "enable", f"-path=mistakes/{name}", *words)
    # Where an engine keeps its config, its roles and its creds, kv keeps what it is given.
    for path in ("config", "roles/a", "creds/a"):
        bao.bao("kv", "put", f"mistakes/kv1/{path}", "x=y")
    yield {"BAO_ADDR": bao.address, "BAO_TOKEN": bao.token, "BAO_CACERT": str(bao.ca)}
    for name in KINDS:
        bao.bao("secrets", "disable", f"mistakes/{name}")


def failed(env, *words: str) -> tuple[int, str]:
    """Exit code and the first error's code; its three lines are there."""
    done = invoke(*words, "-o", "json", env=env)
    error = checked_envelope(done.stdout)["errors"][0]
    assert all((error["summary"], error["why"], error["fix"])), error
    return done.exit_code, error["code"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "words",
    [
        ("config", "show", "{}"),
        ("config", "verify", "{}"),
        ("role", "list", "{}"),
        ("role", "show", "{}", "a"),
        ("role", "show", "{}", "b"),
        ("creds", "{}", "a"),
        ("creds", "{}", "b"),
    ],
)
def test_a_mount_of_another_kind_is_no_engine(env, kind, words):
    words = [word.format(f"mistakes/{kind}") for word in words]
    assert failed(env, *words) == (64, "not-an-engine")


def test_verify_leaves_no_trace_in_another_kind_of_mount(env, bao):
    failed(env, "config", "verify", "mistakes/kv1")
    assert bao.api("GET", "mistakes/kv1/config/verify")[0] == 404


def test_a_mount_of_another_kind_is_shown_and_said_to_be_one(env):
    done = invoke("mount", "show", "mistakes/kv2", "-o", "json", env=env)
    data = checked_data(done.stdout)
    assert (done.exit_code, data["type"], data["is_engine"]) == (0, "kv", False)
    assert "no skyflow engine is at mistakes/kv2" in done.stderr


@pytest.mark.parametrize("path", ["sys/x", "identity/x"])
def test_the_servers_own_paths_are_no_engine(env, path):
    for words in (("creds", path, "y"), ("config", "show", path), ("role", "list", path)):
        assert failed(env, *words) == (64, "not-an-engine")


def test_nothing_mounted_is_a_usage_error(env):
    for words in (("creds", "none/x", "y"), ("config", "verify", "none/x"), ("mount", "show", "z")):
        assert failed(env, *words) == (64, "not-mounted")


def test_a_wrong_namespace_is_named(env):
    for words in (
        ("creds", "order", "y"),
        ("config", "show", "order"),
        ("role", "list", "order"),
        ("mount", "list"),
        ("mount", "show", "order"),
        ("plugin", "list"),
        ("status",),
    ):
        assert failed(env, *words, "-n", "nowhere") == (64, "no-such-namespace"), words


COMMANDS = (("creds", "order", "y"), ("role", "list", "order"), ("mount", "list"))


def test_an_address_by_flag_without_a_token_is_told_from_a_bad_token(env, tmp_path):
    named = {**env, "BAO_ADDR": None, "HOME": str(tmp_path)}
    for words in COMMANDS:
        found = failed(named, *words, "--address", env["BAO_ADDR"])
        assert found == (4, "no-token"), words
    done = invoke("mount", "list", "--address", env["BAO_ADDR"], env=named)
    assert "no token was sent" in done.stderr
    assert "--token-file" in done.stderr


def test_no_login_in_the_environment_is_told_from_a_bad_token(env, tmp_path):
    nobody = {**env, "BAO_TOKEN": None, "VAULT_TOKEN": None, "HOME": str(tmp_path)}
    for words in COMMANDS:
        assert failed(nobody, *words) == (4, "no-token"), words
    assert failed({**nobody, "BAO_TOKEN": "dead"}, "mount", "list") == (4, "forbidden")


def test_a_certificate_that_is_not_trusted_names_the_ca(env):
    done = invoke("mount", "list", "-o", "json", env={**env, "BAO_CACERT": None})
    error = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, error["code"]) == (69, "unreachable")
    assert "certificate" in error["why"]
    assert "--ca-cert" in error["fix"]
    assert "BAO_CACERT" in error["fix"]


@pytest.mark.slow
def test_registering_again_never_drops_arguments_in_silence(env, bao, tmp_path):
    build_from(copy_source(tmp_path), bao.plugin_dir, "again")
    words = ("plugin", "register", str(bao.plugin_dir / "again"), "--name", "again")
    first = invoke(*words, "--only-host", "127.0.0.1:8443", "-o", "json", env=env)
    assert first.exit_code == 0, first.stdout
    assert checked_data(first.stdout)["changed"]
    entry = f"sys/plugins/catalog/secret/again?version={semver()}"
    assert failed(env, *words) == (5, "needs-confirmation")
    asked = invoke(*words, env=env)
    assert "args: --only-host=127.0.0.1:8443 -> none" in asked.stderr
    assert bao.api("GET", entry)[1]["data"]["args"] == [
        "--only-host=127.0.0.1:8443",
        "--env-names=",
    ]
    data = checked_data(invoke(*words, "-y", "-o", "json", env=env).stdout)
    assert [one["field"] for one in data["changes"]] == ["args"]
    assert bao.api("GET", entry)[1]["data"]["args"] == ["--env-names="]
    same = invoke(*words, env=env)
    assert "already registered" in same.stdout
    pair = ("--env", "SSL_CERT_FILE=/etc/ca.pem")
    told = invoke(*words, *pair, "--env", "NOT_READ=x", env=env)
    assert "will not get NOT_READ" in told.stderr
    told = invoke(*words, *pair, "-y", env=env)
    assert "will not get" not in told.stderr
    assert "already registered" not in told.stdout
    # C2: the environment would get lost, and no server shows it.
    assert bao.api("GET", entry)[1]["data"]["args"] == ["--env-names=SSL_CERT_FILE"]
    assert failed(env, *words) == (5, "needs-confirmation")
    asked = invoke(*words, env=env)
    assert "env: SSL_CERT_FILE (values unknown) -> none" in asked.stderr
    assert "--env NAME=VALUE" in asked.stderr
    assert "already registered" not in asked.stdout
    dropped = invoke(*words, "-y", env=env)
    assert (dropped.exit_code, "already registered" in dropped.stdout) == (0, False)
    assert "already registered" in invoke(*words, env=env).stdout
    # Registered by another tool, nothing notes what environment it has.
    digest = bao.api("GET", entry)[1]["data"]["sha256"]
    body = {"sha256": digest, "command": "again", "version": semver(), "env": ["LANG=C"]}
    assert bao.api("POST", "sys/plugins/catalog/secret/again", body)[0] == 204
    assert failed(env, *words) == (5, "needs-confirmation")
    assert "env: unknown -> none" in invoke(*words, env=env).stderr
    assert "already registered" not in invoke(*words, "-y", env=env).stdout
    assert failed(env, *words, "--env", "API_KEY=x") == (64, "secret-env")
    bao.api("DELETE", entry)
