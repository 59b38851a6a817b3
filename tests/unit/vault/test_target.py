"""Which server and which token: one bundle from one source."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyflowctl.errors import ExitCode, UsageError
from skyflowctl.secret import Secret
from skyflowctl.vault.target import (
    ContextEntry,
    Target,
    TargetFlags,
    check_address,
    resolve_target,
)

NO_FLAGS = TargetFlags()


def private(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose home has no token yet."""
    return {"HOME": str(tmp_path)}


@pytest.fixture
def context() -> ContextEntry:
    return ContextEntry("prod", "https://prod:8200", "team", nodes=("https://n1:8200",))


def token_of(target: Target) -> str | None:
    return target.token.reveal() if target.token else None


def test_no_server_named_is_a_usage_error_with_its_fix(home):
    with pytest.raises(UsageError) as caught:
        resolve_target(NO_FLAGS, {**home, "BAO_TOKEN": "t"})
    assert caught.value.exit_code is ExitCode.USAGE
    problem = caught.value.problems[0]
    assert problem.code == "no-target"
    assert "BAO_ADDR" in problem.fix


def test_the_environment_is_one_bundle(home, context):
    environ = {**home, "BAO_ADDR": "https://env", "BAO_TOKEN": "env-token", "BAO_NAMESPACE": "a/b/"}
    target = resolve_target(NO_FLAGS, environ, context)
    assert (target.source, target.address) == ("environment", "https://env")
    assert (target.namespace, token_of(target)) == ("a/b", "env-token")


def test_bao_wins_over_vault_even_when_it_is_empty(home):
    environ = {**home, "VAULT_ADDR": "https://vault", "VAULT_TOKEN": "v", "VAULT_NAMESPACE": "ns"}
    assert resolve_target(NO_FLAGS, environ).address == "https://vault"
    assert resolve_target(NO_FLAGS, environ).namespace == "ns"
    target = resolve_target(
        NO_FLAGS, {**environ, "BAO_ADDR": "https://bao", "BAO_TOKEN": "", "BAO_NAMESPACE": ""}
    )
    assert (target.address, token_of(target), target.namespace) == ("https://bao", None, "")
    with pytest.raises(UsageError):
        resolve_target(NO_FLAGS, {**environ, "BAO_ADDR": ""})


def test_an_address_by_flag_takes_nothing_secret_from_elsewhere(home, context, tmp_path):
    private(tmp_path / ".vault-token", "stored")
    certificate = private(tmp_path / "client.pem", "x")
    environ = {
        **home,
        "BAO_ADDR": "https://env",
        "BAO_TOKEN": "env-token",
        "BAO_NAMESPACE": "ns",
        "BAO_TOKEN_PATH": private(tmp_path / "other", "other"),
        "BAO_CLIENT_CERT": certificate,
        "BAO_SKIP_VERIFY": "true",
        "SKYFLOWCTL_NODES": "https://n1",
    }
    target = resolve_target(TargetFlags(address="https://flag"), environ, context)
    assert (target.source, target.address) == ("flags", "https://flag")
    assert (token_of(target), target.namespace, target.client_cert) == (None, "", "")
    assert (target.skip_verify, target.nodes) == (False, ())


def test_a_context_takes_no_token_from_the_environment(home, context, tmp_path):
    private(tmp_path / ".vault-token", "stored")
    environ = {**home, "BAO_TOKEN": "env-token", "BAO_NAMESPACE": "ns"}
    target = resolve_target(NO_FLAGS, environ, context)
    assert (target.source, target.address, target.namespace) == (
        "context",
        "https://prod:8200",
        "team",
    )
    assert target.token is None
    assert target.nodes == ("https://n1:8200",)


@pytest.mark.parametrize("source", ["flags", "environment", "context"])
def test_a_token_by_flag_serves_every_address(home, context, tmp_path, source):
    environ = {**home, "BAO_TOKEN": "env-token"}
    if source == "environment":
        environ["BAO_ADDR"] = "https://env"
    flags = TargetFlags(
        address="https://flag" if source == "flags" else None,
        token_file=private(tmp_path / "t", "flag-token\n"),
        namespace="/ns/",
    )
    target = resolve_target(flags, environ, context)
    assert (target.source, token_of(target), target.namespace) == (source, "flag-token", "ns")


def test_tokens_of_the_stock_clients_serve_an_environment_address(home, tmp_path):
    environ = {**home, "BAO_ADDR": "https://env"}
    assert resolve_target(NO_FLAGS, environ).token is None
    private(tmp_path / ".vault-token", "stored\n")
    assert token_of(resolve_target(NO_FLAGS, environ)) == "stored"
    environ["BAO_TOKEN_PATH"] = private(tmp_path / "path", "by-path")
    assert token_of(resolve_target(NO_FLAGS, environ)) == "by-path"
    helper = private(tmp_path / "helper", '#!/bin/sh\ntest "$1" = get && echo by-helper\n', 0o700)
    private(tmp_path / ".bao", f'token_helper = "{helper}"\n')
    assert token_of(resolve_target(NO_FLAGS, environ)) == "by-helper"
    assert token_of(resolve_target(NO_FLAGS, {**environ, "BAO_TOKEN": "direct"})) == "direct"
    assert token_of(resolve_target(NO_FLAGS, {**environ, "BAO_TOKEN": ""})) == "by-helper"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("#!/bin/sh\nexit 3\n", "status 3"),
        ("#!/bin/sh\nprintf 'a\\nb'\n", "not one line"),
    ],
)
def test_a_token_helper_that_fails_is_said(home, tmp_path, script, why):
    helper = private(tmp_path / "helper", script, 0o700)
    private(tmp_path / ".bao", f'token_helper = "{helper}"')
    with pytest.raises(UsageError) as caught:
        resolve_target(NO_FLAGS, {**home, "BAO_ADDR": "https://env"})
    assert why in caught.value.problems[0].why


@pytest.mark.parametrize("helper", ["relative/helper", "/nonexistent/helper", "/a\\u0000b"])
def test_a_token_helper_that_cannot_run_is_said(home, tmp_path, helper):
    private(tmp_path / ".bao", f'token_helper = "{helper}"')
    with pytest.raises(UsageError) as caught:
        resolve_target(NO_FLAGS, {**home, "BAO_ADDR": "https://env"})
    assert caught.value.problems[0].code == "token-helper-failed"


def test_a_token_helper_without_a_token_has_none(home, tmp_path):
    helper = private(tmp_path / "helper", "#!/bin/sh\nexit 0\n", 0o700)
    private(tmp_path / ".bao", f'token_helper = "{helper}"')
    assert resolve_target(NO_FLAGS, {**home, "BAO_ADDR": "https://env"}).token is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_file_that_others_may_read_is_refused(home, tmp_path, mode):
    path = private(tmp_path / "t", "flag-token", mode)
    with pytest.raises(UsageError) as caught:
        resolve_target(TargetFlags(address="https://x", token_file=path), home)
    assert caught.value.problems[0].code == "token-file-mode"


@pytest.mark.parametrize("text", ["", "  \n", "two\nlines", "umlaut-\u00fc", "x" * 9000])
def test_a_text_that_is_no_token_is_refused_and_not_shown(home, tmp_path, text):
    path = private(tmp_path / "t", text)
    with pytest.raises(UsageError) as caught:
        resolve_target(TargetFlags(address="https://x", token_file=path), home)
    assert text.strip() == "" or text not in str(caught.value.problems)


def test_a_missing_token_file_is_a_usage_error(home, tmp_path):
    with pytest.raises(UsageError):
        resolve_target(TargetFlags(address="https://x", token_file=str(tmp_path / "none")), home)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://bao.example.com:8200/", "https://bao.example.com:8200"),
        ("HTTPS://Bao.Example.com:443", "https://bao.example.com"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("https://[::1]:8200", "https://[::1]:8200"),
        ("unix:///run/bao.sock", "unix:///run/bao.sock"),
        ("  https://a ", "https://a"),
    ],
)
def test_addresses_have_one_form(given, kept):
    assert check_address(given) == kept


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "bao.example.com:8200",
        "ftp://bao",
        "https://",
        "https://host:99999",
        "https://host:port",
        "https://[::1",
        "https://host/v1",
        "https://host?x=1",
        "https://user:hunter2@host",
        "ftp://user:hunter2@host",
        "unix://",
        "unix://relative/path",
    ],
)
def test_other_addresses_are_refused_and_show_no_password(bad):
    with pytest.raises(UsageError) as caught:
        check_address(bad)
    assert "hunter2" not in str(caught.value.problems)


def test_tls_settings_by_flag_win(home, tmp_path):
    ours, theirs = private(tmp_path / "a.pem", "x"), private(tmp_path / "b.pem", "x")
    environ = {
        **home,
        "BAO_ADDR": "https://env",
        "VAULT_CACERT": theirs,
        "BAO_TLS_SERVER_NAME": "inner",
        "BAO_CLIENT_CERT": theirs,
        "BAO_CLIENT_KEY": theirs,
    }
    target = resolve_target(TargetFlags(ca_cert=ours), environ)
    assert (target.ca_cert, target.tls_server_name) == (ours, "inner")
    assert (target.client_cert, target.client_key) == (theirs, theirs)
    assert resolve_target(NO_FLAGS, environ).ca_cert == theirs
    assert resolve_target(TargetFlags(address="https://flag"), environ).ca_cert == theirs


def test_a_tls_file_that_is_not_there_is_said(home):
    environ = {**home, "BAO_ADDR": "https://env", "BAO_CACERT": "/nonexistent/ca.pem"}
    with pytest.raises(UsageError) as caught:
        resolve_target(NO_FLAGS, environ)
    assert "/nonexistent/ca.pem" in caught.value.problems[0].summary


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("TRUE", True), ("True", True), ("f", False), ("", False)]
)
def test_skip_verify_is_honoured_with_a_warning(home, text, value):
    environ = {**home, "BAO_ADDR": "https://env", "BAO_SKIP_VERIFY": text}
    target = resolve_target(NO_FLAGS, environ)
    assert target.skip_verify is value
    assert [warning.code for warning in target.warnings] == ["tls-not-verified"] * value


def test_a_skip_verify_without_truth_value_is_refused(home):
    environ = {**home, "BAO_ADDR": "https://env", "BAO_SKIP_VERIFY": "maybe"}
    with pytest.raises(UsageError):
        resolve_target(NO_FLAGS, environ)


def test_http_warns_except_on_this_machine(home):
    def codes(address: str) -> list[str]:
        target = resolve_target(NO_FLAGS, {**home, "BAO_ADDR": address})
        return [warning.code for warning in target.warnings]

    assert codes("http://bao.example.com") == ["not-encrypted"]
    assert codes("http://127.0.0.1:8200") == codes("http://localhost") == []


def test_named_nodes_come_with_the_address(home):
    environ = {
        **home,
        "BAO_ADDR": "https://env",
        "SKYFLOWCTL_NODES": "https://n1:8200/, https://n2",
    }
    assert resolve_target(NO_FLAGS, environ).nodes == ("https://n1:8200", "https://n2")
    with pytest.raises(UsageError):
        resolve_target(NO_FLAGS, {**environ, "SKYFLOWCTL_NODES": "n1"})


def test_nothing_shows_the_token(home):
    target = resolve_target(NO_FLAGS, {**home, "BAO_ADDR": "https://env", "BAO_TOKEN": "hidden-1"})
    assert "hidden-1" not in f"{target!r}{target}"
    other = target.with_token(Secret("hidden-2"))
    assert token_of(other) == "hidden-2"
    assert "hidden-2" not in repr(other)


@pytest.mark.parametrize("name", ["te\nam", "te\x00am", "te am", "t\x7f", "größe", "a\r\nX-Y: z"])
def test_a_namespace_that_no_header_may_hold_is_refused_at_once(home, name):
    environ = {**home, "BAO_ADDR": "https://env"}
    for flags, more in ((TargetFlags(namespace=name), {}), (NO_FLAGS, {"BAO_NAMESPACE": name})):
        with pytest.raises(UsageError) as caught:
            resolve_target(flags, {**environ, **more})
        assert caught.value.problems[0].code == "bad-namespace"


def test_several_servers_in_one_address_lead_to_the_option_for_nodes(home):
    environ = {**home, "BAO_ADDR": "https://a:8200,https://b:8200"}
    with pytest.raises(UsageError, match="several servers") as caught:
        resolve_target(NO_FLAGS, environ)
    problem = caught.value.problems[0]
    assert "--node" in problem.fix
    assert "SKYFLOWCTL_NODES" in problem.fix
