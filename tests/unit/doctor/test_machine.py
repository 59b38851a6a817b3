"""Checks of this machine: variables, proxies, and what ``import skyflow`` is."""

from __future__ import annotations

from importlib import metadata

import pytest

from skyflowctl.cli.help import ENVIRONMENT
from skyflowctl.doctor.machine import SDK_PINNED, check_environment, packages, proxies
from skyflowctl.doctor.model import Diagnosis, Grade, count_grades, diagnose, ok_finding
from skyflowctl.errors import UsageError

HOME = {"HOME": "/nowhere"}
OWN = [name for name in ENVIRONMENT if name.startswith("SKYFLOWCTL_")]


def found(**environ: str) -> list[tuple[str, str]]:
    return [(one.grade.value, one.summary) for one in check_environment(HOME | environ, OWN)]


def test_an_empty_environment_is_ok():
    assert found() == [("ok", "no BAO_ or VAULT_ variable is set")]


@pytest.mark.parametrize(
    ("environ", "summary", "fix"),
    [
        (
            {"BAO_ADDR": "https://a", "VAULT_ADDR": "https://b"},
            "BAO_ADDR and VAULT_ADDR disagree",
            "unset VAULT_ADDR",
        ),
        (
            {"BAO_ADDR": "https://a", "BAO_AGENT_ADDR": "https://b"},
            "the address of an agent hides the server's",
            "unset BAO_AGENT_ADDR VAULT_AGENT_ADDR",
        ),
        ({"BAO_TOKEN": "s.x"}, "BAO_TOKEN is set, and no address that it belongs to", "export"),
        ({"VAULT_FORMAT": "json"}, "VAULT_FORMAT is set and not used", "give -o json"),
    ],
)
def test_what_is_wrong_is_a_warning_with_its_fix(environ, summary, fix):
    (first, *_) = [
        one for one in check_environment(HOME | environ, OWN) if one.grade is Grade.WARNING
    ]
    assert first.summary == summary
    assert first.fix.startswith(fix)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BAO_ADDRESS", "BAO_ADDR"),
        ("BAO_ADRR", "BAO_ADDR"),
        ("VAULT_ADRR", "VAULT_ADDR"),
        ("VAULT_CA_CERT", "VAULT_CACERT"),
        ("BAO_SKIPVERIFY", "BAO_SKIP_VERIFY"),
        ("SKYFLOWCTL_NODE", "SKYFLOWCTL_NODES"),
        ("SKYFLOWCTL_ADDR", "BAO_ADDR"),
        ("SKYFLOW_CONTEXT", "SKYFLOWCTL_CONTEXT"),
        ("OPENBAO_ADDR", "BAO_ADDR"),
        ("VALUT_TOKEN", "VAULT_TOKEN"),
    ],
)
def test_a_misspelt_name_is_found_with_the_one_that_was_meant(name, meant):
    (one,) = [one for one in found(**{name: "x"}) if one[0] == "warning"]
    assert one[1] == f"{name} is not read by any client"
    (first, *_) = check_environment(HOME | {name: "x"}, OWN)
    assert first.fix == f'export {meant}="${name}"; unset {name}'
    (first, *_) = check_environment(HOME | {name: "x", meant: "x", "VAULT_ADDR": "x"}, OWN)
    assert first.fix == f"unset {name}", "the right one is set: its value stays"


def test_an_own_name_that_resembles_nothing_is_not_read():
    (one, *_) = check_environment(HOME | {"SKYFLOWCTL_XYZ": "1"}, OWN)
    assert (one.summary, one.fix) == (
        "SKYFLOWCTL_XYZ is not read by any client",
        "unset SKYFLOWCTL_XYZ",
    )


@pytest.mark.parametrize("name", [*OWN, "VAULTWARDEN_TOKEN", "SKYFLOW_BEARER_TOKEN", "HTTP_PROXY"])
def test_a_name_of_another_program_is_left_alone(name):
    assert all("not read" not in summary for _, summary in found(**{name: "x"}))


def test_the_sdk_that_is_named_is_the_one_that_is_required():
    assert SDK_PINNED in (metadata.requires("skyflowctl") or [])


def test_the_same_value_twice_is_no_conflict():
    assert [one[0] for one in found(BAO_ADDR="https://a", VAULT_ADDR="https://a")] == ["ok"]


def test_a_context_that_the_environment_hides():
    findings = check_environment(HOME | {"BAO_ADDR": "https://a"}, OWN, context="prod")
    first = next(iter(findings))
    assert first.summary == "the environment's address hides the context prod"
    assert first.fix == "unset BAO_ADDR", "no variable is named that is not set"


def test_no_secret_value_is_shown():
    environ = {
        "BAO_TOKEN": "s.SECRET",
        "BAO_PROXY_ADDR": "http://u:SECRET@p",
        "BAO_ADDR": "https://a",
    }
    told = [*check_environment(HOME | environ, OWN), *proxies(environ, "https://a")]
    assert "SECRET" not in repr(told)
    assert "BAO_TOKEN=(set)" in repr(told)
    assert "through p" in repr(told)


def test_the_proxy_of_the_token_service():
    (one,) = proxies({"HTTPS_PROXY": "http://p:3128"}, "")
    assert (one.grade, "through p:3128" in one.summary) == (Grade.OK, True)
    (one,) = proxies({"HTTPS_PROXY": "socks5://p:3128"}, "")
    assert (one.grade, one.fix) == (Grade.BAD, "export HTTPS_PROXY=http://HOST:PORT")


def test_the_vendors_sdk_is_recognised():
    (one,) = packages()
    assert one.grade is Grade.OK


def test_another_package_that_shadows_the_sdk(tmp_path):
    import sys

    (tmp_path / "skyflow").mkdir()
    (tmp_path / "skyflow" / "__init__.py").write_text("raise AssertionError('imported')")
    (one,) = packages([str(tmp_path), *sys.path])
    assert (one.grade, str(tmp_path) in one.detail) == (Grade.BAD, True)


def test_an_sdk_that_is_not_installed_is_unknown(tmp_path):
    (one,) = packages([str(tmp_path)])
    assert one.grade is Grade.UNKNOWN


def test_a_check_that_fails_is_unknown_and_ends_no_other():
    def fails() -> list[Diagnosis]:
        raise UsageError("cannot be asked", why="w", fix="f")

    started: list[str] = []
    findings = diagnose({"a": fails, "b": lambda: [ok_finding("b", "fine")]}, started.append)
    assert [(one.check, one.grade) for one in findings] == [("a", Grade.UNKNOWN), ("b", Grade.OK)]
    assert sorted(started) == ["a", "b"]
    assert count_grades(findings) == {"bad": 0, "warning": 0, "unknown": 1, "ok": 1}
