"""What commands say besides their work: names, warnings and reasons in their data."""

from __future__ import annotations

import pytest
from support.cli import checked_data, checked_envelope, invoke

from skyflowctl.cli.context import manifests
from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.credentials.schemes import env, file
from skyflowctl.devstack.layout import DevLayout
from skyflowctl.devstack.state import DevState, Part, ProcessRecord, save_state
from skyflowctl.errors import UsageError
from skyflowctl.operations.health import STATES
from skyflowctl.vault.target import TargetFlags, resolve_target

MANIFEST = """version: 1
manifest: shop
mounts:
  order:
    credentials: {env: NOT_SET_HERE}
    roles: {writer: {role_ids: [r]}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKYFLOWCTL_FILE", raising=False)
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    (tmp_path / "mounts.yaml").write_text(MANIFEST)
    return tmp_path


@pytest.mark.parametrize(
    ("prefix", "mount", "name"),
    [
        ("skyflow", "order", "order"),
        ("skyflow", "skyflow/order", "order"),
        ("skyflow", "team/order", "team/order"),
        ("team", "team/order", "order"),
        ("team", "skyflow/order", "skyflow/order"),
    ],
)
def test_a_mounts_name_is_what_stands_below_the_prefix(folder, prefix, mount, name):
    text = MANIFEST + f"defaults:\n  path_prefix: {prefix}\n"
    (folder / "mounts.yaml").write_text(text)
    assert manifests.mount_name(mount, manifests.resolve_path(mount)) == name


def test_a_dry_run_tells_the_name_also_for_a_path():
    done = invoke("creds", "skyflow/order", "writer", "--dry-run", "-o", "json")
    assert checked_data(done.stdout)["mount"] == "order"


def test_warnings_of_validate_are_in_its_data():
    done = invoke("validate", "-o", "json")
    data = checked_data(done.stdout)
    (warning,) = data["warnings"]
    assert (done.exit_code, data["valid"], warning["code"]) == (0, True, "reference-unset")
    assert warning["where"]["line"] == 5


def test_what_is_unwell_is_an_error_with_three_lines():
    done = invoke("health", "order", "-o", "json", env={"BAO_ADDR": "http://127.0.0.1:9"})
    whole = checked_envelope(done.stdout)
    (error,) = whole["errors"]
    assert (done.exit_code, whole["status"], error["code"]) == (6, "unhealthy", "unreachable")
    assert "skyflow/order" in error["summary"]
    assert all((error["why"], error["fix"]))


def test_every_bad_state_has_its_fix():
    from skyflowctl.cli.commands.health import _FIXES

    assert set(_FIXES) == set(STATES) - {"ok", "refused"}


def test_dev_env_of_a_stopped_stack_makes_eval_fail(folder):
    root = folder / "dev"
    layout = DevLayout(root)
    layout.create()
    layout.operator_token.write_text("s.dev")
    # No process has this start.
    part = Part(ProcessRecord(1, 1.0), 18200)
    save_state(layout, DevState(server=part, emulator=part, cluster_id="c"))
    done = invoke("dev", "env", env={"SKYFLOWCTL_DEV_DIR": str(root)})
    assert (done.exit_code, done.stdout) == (6, "(exit 6)\n")
    assert "dev up" in done.stderr


def test_an_empty_variable_that_hides_another_is_named():
    with pytest.raises(UsageError) as refused:
        resolve_target(TargetFlags(), {"BAO_ADDR": "", "VAULT_ADDR": "https://x"})
    problem = refused.value.problems[0]
    assert problem.code == "no-target"
    assert "BAO_ADDR is set but empty" in problem.why
    with pytest.raises(UsageError) as refused:
        resolve_target(TargetFlags(), {"BAO_ADDR": ""})
    assert "set but empty" not in refused.value.problems[0].why


def test_a_reference_may_be_another_secret_than_a_credential(tmp_path):
    (tmp_path / "empty").write_text("")
    (tmp_path / "binary").write_bytes(b"\xff")
    for read in (
        lambda: env.read("T", {}),
        lambda: env.read("T", {"T": " "}),
        lambda: file.read(str(tmp_path / "none")),
        lambda: file.read(str(tmp_path / "empty")),
    ):
        with pytest.raises(UnresolvedReferenceError) as caught:
            read()
        problem = caught.value.problems[0]
        assert all((problem.why, problem.fix))
        assert "credential" not in problem.fix
