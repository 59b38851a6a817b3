"""``context`` from the command line on, and which server a command then talks to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import checked_data, checked_envelope, invoke

from skyflowctl.cli.context.contexts import chosen_context, default_prefix
from skyflowctl.cli.printed_commands import repeating
from skyflowctl.errors import UsageError


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("BAO_ADDR", "VAULT_ADDR", "BAO_AGENT_ADDR", "SKYFLOWCTL_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def call(env, *words: str, stdin: str = "", **more: str):
    return invoke(*words, "-o", "json", env={**env, **more}, stdin=stdin)


def data_of(done):
    assert done.exit_code == 0, done.output
    return checked_data(done.stdout)


def code_of(done) -> tuple[int, str]:
    return done.exit_code, checked_envelope(done.stdout)["errors"][0]["code"]


def add(env, name: str, *words: str):
    return call(env, "context", "add", name, "--address", f"https://{name}:8200", *words)


def test_the_first_context_becomes_the_current_one(env):
    assert data_of(add(env, "prod"))["current"] is True
    assert data_of(add(env, "eu"))["current"] is False
    assert data_of(add(env, "dr", "--use"))["current"] is True
    listed = data_of(call(env, "context", "list"))
    assert listed["current"] == "dr"
    assert [(one["name"], one["current"]) for one in listed["contexts"]] == [
        ("dr", True), ("eu", False), ("prod", False)
    ]  # fmt: skip


def test_all_options_are_stored(env, tmp_path):
    ca = tmp_path / "ca.pem"
    added = data_of(
        add(env, "prod", "-n", "/team/", "--ca-cert", str(ca), "--node", "https://B:8200/",
            "--path-prefix", "/team/sky/", "--method", "jwt", "--role", "ci", "--mount", "/ci/",
            "--secret", "env:CI_JWT")
    )  # fmt: skip
    assert (added["namespace"], added["ca_cert"], added["nodes"]) == (
        "team", str(ca), ["https://b:8200"]
    )  # fmt: skip
    assert (added["path_prefix"], added["login"]["mount"]) == ("team/sky", "ci")
    assert added["login"]["secret"] == "env:CI_JWT"


def test_a_secret_given_as_an_argument_is_refused_and_not_stored(env, tmp_path):
    done = add(env, "prod", "--method", "jwt", "--secret", "eyJhbGciOi.secret.value")
    assert code_of(done) == (64, "bad-reference")
    assert "secret.value" not in done.output
    assert not list(tmp_path.rglob("contexts.json"))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("prod",), "no-address"),
        (("Prod", "--address", "https://a"), "bad-context-name"),
        (("prod", "--address", "a:8200"), "bad-address"),
        (("prod", "--address", "https://u:p@a"), "bad-address"),
        (("prod", "--address", "https://a", "--role", "x"), "no-login-method"),
        (("prod", "--address", "https://a", "--path-prefix", "A"), "bad-path-prefix"),
    ],
)
def test_what_cannot_be_a_context_is_64(env, words, code):
    assert code_of(call(env, "context", "add", *words)) == (64, code)


def test_the_same_again_is_unchanged_and_another_needs_a_yes(env):
    add(env, "prod")
    assert data_of(add(env, "prod"))["result"] == "unchanged"
    other = ("context", "add", "prod", "--address", "https://other:8200")
    assert code_of(call(env, *other)) == (5, "needs-confirmation")
    assert data_of(call(env, *other, "-y"))["result"] == "replaced"


def test_use_and_remove(env):
    add(env, "prod")
    add(env, "eu")
    assert data_of(call(env, "context", "use", "eu"))["before"] == "prod"
    assert code_of(call(env, "context", "use", "ue")) == (64, "unknown-context")
    assert data_of(call(env, "context", "remove", "prod"))["current"] == "eu"
    assert code_of(call(env, "context", "remove", "eu")) == (5, "needs-confirmation")
    assert data_of(call(env, "context", "remove", "eu", "-y"))["current"] == ""
    assert data_of(call(env, "context", "remove", "eu"))["result"] == "absent"
    assert data_of(call(env, "context", "list"))["contexts"] == []


def test_the_order_of_sources(env, monkeypatch):
    add(env, "prod")
    add(env, "eu")
    assert chosen_context(None, None).name == "prod"
    monkeypatch.setenv("SKYFLOWCTL_CONTEXT", "eu")
    assert chosen_context(None, None).name == "eu"
    assert chosen_context(None, "prod").name == "prod"
    assert chosen_context("https://flag", None) is None
    monkeypatch.setenv("VAULT_ADDR", "https://env")
    assert chosen_context(None, None) is None
    assert chosen_context(None, "prod").name == "prod"
    with pytest.raises(UsageError):
        chosen_context("https://flag", "prod")


def test_a_command_talks_to_the_server_of_the_context(env):
    call(env, "context", "add", "gone", "--address", "http://127.0.0.1:9")
    for words, more in (
        ((), {}),
        (("--context", "gone"), {"BAO_ADDR": "http://127.0.0.1:8"}),
    ):
        done = call(env, "mount", "show", "order", *words, BAO_MAX_RETRIES="0", **more)
        assert done.exit_code == 69
        assert "127.0.0.1:9" in done.stdout
    hidden = call(env, "mount", "show", "order", BAO_ADDR="http://127.0.0.1:8",
                  SKYFLOWCTL_CONTEXT="gone", BAO_MAX_RETRIES="0")  # fmt: skip
    assert "127.0.0.1:8" in hidden.stdout
    assert "the context gone is not used" in hidden.stderr


def test_two_servers_are_refused(env):
    add(env, "prod")
    both = ("mount", "show", "order", "--context", "prod")
    assert code_of(call(env, *both, "--address", "https://a")) == (64, "two-targets")
    assert code_of(call(env, *both, "--dev")) == (64, "two-targets")


def test_an_unknown_context_is_named_with_those_there_are(env):
    add(env, "gone")
    done = call(env, "mount", "list", "--context", "nobody")
    assert code_of(done) == (64, "unknown-context")
    assert json.loads(done.stdout)["errors"][0]["fix"] == "name gone"


def test_the_prefix_comes_from_the_context_without_a_manifest(env):
    add(env, "prod", "--path-prefix", "team/sky")
    add(env, "eu")
    assert default_prefix() == "team/sky"
    for given, prefix in (
        ({"context": "eu"}, "skyflow"),
        ({"address": "https://a"}, "skyflow"),
        ({"dev": True}, "skyflow"),
        ({"context": "prod"}, "team/sky"),
    ):
        with repeating(given, lambda _row: None):
            assert default_prefix() == prefix, given


def test_the_list_warns_if_the_environment_hides_the_current_context(env):
    add(env, "prod")
    done = invoke("context", "list", env={**env, "VAULT_ADDR": "https://env"})
    assert "VAULT_ADDR is set" in done.stderr
    assert done.stdout.splitlines()[1].startswith("*  prod")


@pytest.mark.parametrize("words", [(), ("--context", "prod")])
def test_doctor_tells_of_contexts_that_cannot_be_read_once(env, tmp_path, words):
    file = tmp_path / "skyflowctl" / "contexts.json"
    file.parent.mkdir(mode=0o700)
    file.write_text("{")
    file.chmod(0o600)
    assert call(env, "context", "list").exit_code == 65
    done = call(env, "doctor", *words, BAO_ADDR="https://127.0.0.1:1")
    found = [one for one in checked_data(done.stdout)["findings"] if one["check"] == "target"]
    (unread,) = [one for one in found if one["summary"] == "the contexts cannot be read"]
    assert unread["detail"].startswith(f"{file}:1:2: ")
    assert unread["grade"] == ("bad" if words else "warning")
    assert words or unread["fix"].endswith("skyflowctl context list")
