"""E1: the one table of the stock client's environment, held against the code."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from support.cli import invoke

from skyflowctl.cli import help as pages
from skyflowctl.cli.context import gateways
from skyflowctl.cli.options import TargetOptions
from skyflowctl.errors import UsageError
from skyflowctl.vault.client_settings import RateLimit, client_timeout
from skyflowctl.vault.connection import proxy_url
from skyflowctl.vault.environment import VARIABLES, named_address
from skyflowctl.vault.target import Target, TargetFlags, resolve_target

USED = {one.name for one in VARIABLES if not one.instead}
NOT_USED = {one.name for one in VARIABLES if one.instead}
# What each of them does: a value, the others that it needs, and what is seen of it.
EFFECTS = {
    "ADDR": ("https://b", {}, lambda t: t.address == "https://b"),
    "AGENT_ADDR": ("https://agent", {}, lambda t: t.address == "https://agent"),
    "TOKEN": ("tok", {}, lambda t: t.token.reveal() == "tok"),
    "TOKEN_PATH": ("{home}/t", {}, lambda t: t.token.reveal() == "stored"),
    "CONFIG_PATH": ("{home}/settings", {}, lambda t: t.token.reveal() == "helped"),
    "NAMESPACE": ("team", {}, lambda t: t.namespace == "team"),
    "CACERT": ("{home}/t", {}, lambda t: t.ca_cert.endswith("/t")),
    "CACERT_BYTES": ("PEM", {}, lambda t: t.ca_bytes == "PEM"),
    "CAPATH": ("{home}", {}, lambda t: bool(t.ca_path)),
    "CLIENT_CERT": ("{home}/t", {"CLIENT_KEY": __file__}, lambda t: t.client_cert.endswith("/t")),
    "CLIENT_KEY": ("{home}/t", {"CLIENT_CERT": __file__}, lambda t: t.client_key.endswith("/t")),
    "CLIENT_CERT_BYTES": ("C", {"CLIENT_KEY_BYTES": "K"}, lambda t: "C" in t.client_pem.reveal()),
    "CLIENT_KEY_BYTES": ("K", {"CLIENT_CERT_BYTES": "C"}, lambda t: "K" in t.client_pem.reveal()),
    "TLS_SERVER_NAME": ("name", {}, lambda t: t.tls_server_name == "name"),
    "SKIP_VERIFY": ("true", {}, lambda t: t.skip_verify),
    "MAX_RETRIES": ("7", {}, lambda t: t.max_retries == 7),
    "RATE_LIMIT": ("2.5:9", {}, lambda t: (t.rate_limit.rate, t.rate_limit.burst) == (2.5, 9)),
    "PROXY_ADDR": ("http://p:1", {}, lambda t: t.proxy.reveal() == "http://p:1"),
    "HTTP_PROXY": ("p:1", {}, lambda t: t.proxy.reveal() == "http://p:1"),
}
# These say nothing about the server, and are seen elsewhere.
ELSEWHERE = {"CLIENT_TIMEOUT", "CLI_NO_COLOR"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "t").write_text("stored")
    (tmp_path / "helper").write_text("#!/bin/sh\necho helped\n")
    (tmp_path / "helper").chmod(0o700)
    (tmp_path / "settings").write_text(f'token_helper = "{tmp_path}/helper"')
    return tmp_path


def test_e1_the_effects_below_are_those_of_the_whole_table():
    assert EFFECTS.keys() | ELSEWHERE == USED


@pytest.mark.parametrize("prefix", ["BAO_", "VAULT_"])
@pytest.mark.parametrize("name", EFFECTS)
def test_e1_each_name_has_its_effect_under_both_prefixes(home: Path, name: str, prefix: str):
    value, others, seen = EFFECTS[name]
    given = {name: value.format(home=home), **others}
    environ = {"HOME": str(home), "BAO_ADDR": "https://a"} if name != "ADDR" else {}
    environ |= {"HOME": str(home)} | {prefix + one: text for one, text in given.items()}
    assert seen(resolve_target(TargetFlags(), environ))


@pytest.mark.parametrize("name", sorted(USED - {"ADDR", "CLI_NO_COLOR"}))
def test_e1_a_bao_name_that_is_empty_hides_the_other(home: Path, name: str):
    environ = {"HOME": str(home), "BAO_ADDR": "https://a", f"VAULT_{name}": "/no/such\x00"}
    environ[f"BAO_{name}"] = ""
    assert resolve_target(TargetFlags(), environ).address == "https://a"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 60),
        ("0", 60),
        ("-0", 60),
        ("30", 30),
        ("+5s", 5),
        (".5s", 0.5),
        ("9999999s", 86400),
        ("1.5s", 1.5),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1h", 3600),
    ],
)
def test_e1_the_timeout_is_read_as_the_stock_client_does(text: str, seconds: float, monkeypatch):
    assert client_timeout({"VAULT_CLIENT_TIMEOUT": text}) == seconds
    monkeypatch.setenv("BAO_CLIENT_TIMEOUT", text)
    assert gateways._timeout(TargetOptions()) == seconds


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CLIENT_TIMEOUT", "soon"),
        ("CLIENT_TIMEOUT", "9" * 30),
        ("CLIENT_TIMEOUT", "9" * 400 + "h"),
        ("CLIENT_TIMEOUT", "-1s"),
        ("CLIENT_TIMEOUT", "inf"),
        ("RATE_LIMIT", "5:x"),
        ("RATE_LIMIT", "1e999"),
        ("PROXY_ADDR", "socks5://p:1"),
        ("PROXY_ADDR", "http://"),
        ("PROXY_ADDR", "http://p:99999"),
        ("PROXY_ADDR", "http://user:hidden@p q"),
        ("CLIENT_CERT_BYTES", "alone"),
        ("CLIENT_KEY_BYTES", "alone"),
        ("CLIENT_CERT", __file__),
        ("CLIENT_KEY", __file__),
        ("SKIP_VERIFY", "perhaps"),
        ("SKIP_VERIFY", "tRuE"),
    ],
)
def test_e1_what_cannot_be_used_is_a_usage_error_that_repeats_nothing(home, name: str, text: str):
    environ = {"HOME": str(home), "BAO_ADDR": "https://a", f"BAO_{name}": text}
    read = client_timeout if name == "CLIENT_TIMEOUT" else partial(resolve_target, TargetFlags())
    with pytest.raises(UsageError) as caught:
        read(environ)
    assert f"BAO_{name}" in " ".join(str(one) for one in caught.value.problems)
    assert "hidden" not in str(caught.value.problems)
    assert caught.value.problems[0].fix


def test_e1_no_colour(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    for name in ("NO_COLOR", "BAO_CLI_NO_COLOR", "VAULT_CLI_NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    assert pages.wants_color()
    monkeypatch.setenv("VAULT_CLI_NO_COLOR", "1")
    assert not pages.wants_color()
    monkeypatch.setenv("BAO_CLI_NO_COLOR", "")
    assert pages.wants_color()


@pytest.mark.parametrize("name", sorted(NOT_USED))
def test_e1_what_is_not_used_is_said_where_it_is_set(home: Path, name: str):
    environ = {"HOME": str(home), "BAO_ADDR": "https://a", f"VAULT_{name}": "1"}
    (warning,) = resolve_target(TargetFlags(), environ).warnings
    assert warning.code == "environment-not-used"
    assert warning.summary == f"VAULT_{name} is set and not used"
    assert warning.fix
    said = invoke("health", env={**environ, "BAO_ADDR": "http://127.0.0.1:1", "BAO_TOKEN": "x"})
    assert f"VAULT_{name} is set and not used" in said.stderr


def test_e1_a_value_that_changes_nothing_needs_no_warning(home: Path):
    environ = {"HOME": str(home), "BAO_ADDR": "https://a", "BAO_FORMAT": "table"}
    environ |= {"BAO_SRV_LOOKUP": "false", "BAO_DETAILED": "0", "BAO_MFA": ""}
    assert resolve_target(TargetFlags(), environ).warnings == ()


@pytest.mark.parametrize("text", ["0", "0.5", "-1", "inf", "nan", "5:0", "5:-1", "0:5"])
def test_e1_a_rate_that_limits_nothing_in_the_stock_client_limits_nothing_here(home, text: str):
    environ = {"HOME": str(home), "BAO_ADDR": "https://a", "VAULT_RATE_LIMIT": text}
    target = resolve_target(TargetFlags(), environ)
    assert target.rate_limit is None
    said = [one.summary for one in target.warnings]
    meant = text in {"0.5", "5:0", "5:-1"}
    assert said == (["VAULT_RATE_LIMIT limits nothing"] if meant else [])


def test_e1_a_request_that_would_wait_past_its_time_is_sent_at_once():
    pauses: list[float] = []
    limit = RateLimit(0.01, 1, monotonic=lambda: 0.0, sleep=pauses.append)
    for _ in range(3):
        limit.wait(60)
    assert pauses == []
    limit.wait(1000)
    assert pauses == [100]


def test_e1_the_vault_clients_settings_alone_are_not_used_and_it_is_said(home: Path):
    (home / ".vault").write_text('token_helper = "/helper"')
    environ = {"HOME": str(home), "BAO_ADDR": "https://a"}
    target = resolve_target(TargetFlags(), environ)
    assert target.token is None
    assert [one.summary for one in target.warnings] == ["~/.vault is there and not used"]
    assert resolve_target(TargetFlags(), {**environ, "BAO_TOKEN": "t"}).warnings == ()
    (home / ".bao").write_text("")
    assert resolve_target(TargetFlags(), environ).warnings == ()


def test_e1_help_lists_the_table(monkeypatch):
    page = pages.topic_page("environment", pages.Page(color=False, width=100))
    for one in VARIABLES:
        assert f"BAO_{one.name}" in page


def test_e1_no_code_reads_a_name_that_the_table_lacks():
    """Found by text: calls of variable() and names in quotation marks."""
    source = Path(pages.__file__).parents[1]
    known = {one.name for one in VARIABLES}
    asked: set[str] = set()
    for file in source.rglob("*.py"):
        text = file.read_text()
        asked |= set(re.findall(r"(?:variable|_inherited)\(\s*\w+(?:\.\w+)?, \"([A-Z_]+)\"", text))
        asked |= set(re.findall(r"environ\.get\(\"(?:BAO|VAULT)_([A-Z_]+)\"", text))
        asked |= set(re.findall(r"environ\[\"(?:BAO|VAULT)_([A-Z_]+)\"\]", text))
    assert {"ADDR", "TOKEN", "MAX_RETRIES"} <= asked
    assert asked <= known


def test_e1_an_agent_wins_over_the_address():
    environ = {"VAULT_AGENT_ADDR": "https://agent", "BAO_ADDR": "https://a"}
    assert named_address(environ) == "https://agent"
    assert named_address({**environ, "BAO_AGENT_ADDR": ""}) == "https://a"


def test_e1_the_rate_is_kept_and_a_burst_is_free():
    now, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    limit = RateLimit(2, 3, monotonic=lambda: now[0], sleep=sleep)
    for _ in range(7):
        limit.wait()
    assert pauses == [0.5] * 4
    now[0] += 10
    for _ in range(3):
        limit.wait()
    assert len(pauses) == 4


@pytest.mark.parametrize(
    ("address", "environ", "proxied"),
    [
        ("https://10.0.0.7:8200", {"HTTPS_PROXY": "http://p:1"}, True),
        # Case 15: an address with its port.
        (
            "https://10.0.0.7:8200",
            {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.7:8200"},
            False,
        ),
        (
            "https://10.0.0.7:8200",
            {"HTTPS_PROXY": "http://p:1", "no_proxy": "10.0.0.7:8200"},
            False,
        ),
        ("https://10.0.0.7:8200", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.7:8201"}, True),
        ("https://10.0.0.7:8200", {"https_proxy": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, False),
        ("https://[fd00::1]:8200", {"HTTPS_PROXY": "p:1", "NO_PROXY": "[fd00::1]:8200"}, False),
        ("https://bao.corp:8200", {"HTTPS_PROXY": "p:1", "NO_PROXY": "x, .corp"}, False),
        ("https://bao.corp", {"HTTPS_PROXY": "p:1", "NO_PROXY": "bao.corp:443"}, False),
        ("https://bao.corp", {"HTTPS_PROXY": "p:1", "NO_PROXY": "*"}, False),
        ("http://bao.corp", {"HTTPS_PROXY": "p:1"}, False),
        ("http://bao.corp", {"HTTP_PROXY": "p:1"}, True),
        # The stock client asks this machine directly, whatever stands there.
        ("https://127.0.0.1:8200", {"HTTPS_PROXY": "p:1"}, False),
        ("https://localhost:8200", {"HTTPS_PROXY": "p:1"}, False),
        ("unix:///run/bao.sock", {"HTTPS_PROXY": "p:1", "HTTP_PROXY": "p:1"}, False),
    ],
)
def test_case_15_the_proxy_and_its_exceptions(address, environ, proxied, monkeypatch):
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert bool(proxy_url(Target(address, "", None, "flags"), address)) is proxied


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_a_proxy_that_cannot_be_used_is_a_usage_error(name: str, monkeypatch):
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.setenv(name, "socks5://user:hidden@p:1")
    with pytest.raises(UsageError) as caught:
        proxy_url(Target("https://x", "", None, "flags"), "https://x")
    assert "hidden" not in str(caught.value.problems)
