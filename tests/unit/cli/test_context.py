"""The composition root: which manifest, which path, which server, and questions."""

from __future__ import annotations

import io

import pytest
from support.cli import checked_envelope, invoke

from skyflowctl.cli.console import Terminal
from skyflowctl.cli.context import gateways, manifests
from skyflowctl.cli.options import TargetOptions, span_seconds
from skyflowctl.cli.runner import CommandRun
from skyflowctl.clock import SystemClock
from skyflowctl.errors import RefusedError, UsageError

FIRST = "version: 1\nmanifest: shop\n"
MOUNTS = """mounts:
  order:
    credentials: {env: KEY}
    roles:
      producer: {role_ids: [r]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "SKYFLOWCTL_FILE",
        "BAO_ADDR",
        "VAULT_ADDR",
        "BAO_CLIENT_TIMEOUT",
        "VAULT_CLIENT_TIMEOUT",
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(json=False):
    return CommandRun(
        "0" * 16, "plan", Terminal(out=io.StringIO(), err=io.StringIO()), SystemClock(), json
    )


@pytest.mark.parametrize(
    ("defaults", "scanned"),
    [
        ("defaults:\n  path_prefix: team/skyflow\n", "team/skyflow"),
        ("defaults:   # ours\n  tags: [a]\n\n# more\n  path_prefix: 'sf'  # why\n", "sf"),
        ("defaults:\n  tags: [a]\n", "skyflow"),
        ("", "skyflow"),
        ("defaults: {path_prefix: inline}\n", None),
        ("# path_prefix: old\ndefaults:\n  path_prefix: new\n", None),
        ("defaults:\n  path_prefix: ${TEAM:-blue}\n", None),
    ],
)
def test_the_prefix_is_scanned_only_where_it_is_beyond_doubt(defaults, scanned, folder):
    file = folder / "mounts.yaml"
    file.write_text(FIRST + defaults + MOUNTS)
    assert manifests._scanned_prefix(manifests._text_of([str(file)])) == scanned
    whole = manifests.load_named_manifest(None, run()).manifest.path_prefix
    assert manifests.path_prefix() == whole
    assert scanned in {None, whole}
    assert manifests.resolve_path("order") == f"{whole}/order"


def test_a_path_is_a_path_and_needs_no_manifest(folder):
    (folder / "mounts.yaml").write_text("this: is: no manifest")
    assert manifests.resolve_path("team/order") == "team/order"
    assert manifests.resolve_path("/team/order/") == "team/order"


def test_without_a_manifest_the_prefix_is_skyflow():
    assert manifests.resolve_path("order") == "skyflow/order"


@pytest.mark.parametrize("name", ["", "/", "a//b", "../x", "a/./b", "a\nb"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(UsageError):
        manifests.resolve_path(name)


def test_mounts_are_chosen_by_name_path_or_manifest(folder):
    (folder / "mounts.yaml").write_text(FIRST + MOUNTS)
    everything = manifests.choose_mounts(None, None, run())
    assert [mount.path for mount in everything.mounts] == ["skyflow/order"]
    chosen = manifests.choose_mounts(["order", "other/x"], None, run()).mounts
    assert [(one.name, one.path) for one in chosen] == [
        ("order", "skyflow/order"),
        ("other/x", "other/x"),
    ]


def test_without_a_manifest_the_server_says_which_mounts_there_are():
    chosen = manifests.choose_mounts(None, None, run())
    assert (chosen.mounts, chosen.plugin_name, chosen.prefix) == (None, "skyflow", "skyflow")


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("2m", 120), ("45", 45)])
def test_spans_are_read(text, seconds):
    assert span_seconds(text, "--timeout") == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "soon", "-1s"])
def test_what_is_no_span_is_refused(text):
    with pytest.raises(UsageError, match="--timeout"):
        span_seconds(text, "--timeout")


def test_a_server_is_named_by_flag_environment_or_dev(monkeypatch):
    assert not gateways.server_is_named(TargetOptions())
    assert gateways.server_is_named(TargetOptions(dev=True))
    assert gateways.server_is_named(TargetOptions(address="https://x"))
    monkeypatch.setenv("VAULT_ADDR", "https://x")
    assert gateways.server_is_named(TargetOptions())
    monkeypatch.setenv("BAO_ADDR", "")
    assert not gateways.server_is_named(TargetOptions())


@pytest.mark.parametrize("flag", ["--address=https://127.0.0.1:1", "--token-file=-"])
def test_dev_beside_another_server_is_a_usage_error(flag):
    done = invoke("mount", "list", "--dev", flag)
    assert done.exit_code == 64
    assert "--dev" in done.stderr


def test_no_server_is_a_usage_error_for_every_command_that_needs_one(folder):
    (folder / "mounts.yaml").write_text(FIRST + MOUNTS)
    for words in (
        "plan", "apply -y", "status", "health", "mount list", "mount show order",
        "config show order", "config history order", "config verify order", "role list order", "role show order a",
        "plugin list", "creds order producer",
    ):  # fmt: skip
        done = invoke(*words.split(), "-o", "json")
        whole = checked_envelope(done.stdout)
        assert (done.exit_code, whole["errors"][0]["code"]) == (64, "no-target"), words


class Asked(io.StringIO):
    def isatty(self):
        return True


def test_yes_and_answers(monkeypatch, capsys):
    run().confirm("Do it?", yes=True, no_input=True)
    monkeypatch.setattr("sys.stdin", Asked("Y\n"))
    run().confirm("Do it?", yes=False, no_input=False)
    assert capsys.readouterr().err == "Do it? [y/N] "
    for answer in ("\n", "n\n", "", "yep\n"):
        monkeypatch.setattr("sys.stdin", Asked(answer))
        with pytest.raises(RefusedError, match="not confirmed"):
            run().confirm("Do it?", yes=False, no_input=False)


@pytest.mark.parametrize(
    ("stdin", "no_input", "json"),
    [(Asked, True, False), (Asked, False, True), (io.StringIO, False, False)],
)
def test_where_nobody_can_answer_the_flag_is_named(stdin, no_input, json, monkeypatch):
    monkeypatch.setattr("sys.stdin", stdin("y\n"))
    with pytest.raises(RefusedError) as refused:
        run(json).confirm("Do it?", yes=False, no_input=no_input)
    assert "--yes" in refused.value.problems[0].fix
    assert refused.value.exit_code == 5


def test_a_mount_with_a_path_of_its_own_is_found_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mounts.yaml").write_text(
        "version: 1\nmanifest: own\nmounts:\n"
        "  order: {path: team/orders, roles: {a: {role_ids: [r]}}}\n"
        "  payment: {roles: {a: {role_ids: [r]}}}\n"
    )
    assert manifests.resolve_path("order") == "team/orders"
    assert manifests.resolve_path("payment") == "skyflow/payment"
    assert manifests.resolve_path("other") == "skyflow/other"
