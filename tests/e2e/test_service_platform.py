"""The example of a data platform's secrets: applied, held, repaired, and its logins proved."""

from __future__ import annotations

import base64
import shutil
import signal
import subprocess
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.bao import running_bao
from support.stack import BIN, REPO, Stack, running_stack

pytestmark = pytest.mark.real_server

EXAMPLES = REPO / "examples"
EXAMPLE = EXAMPLES / "service-platform.yaml"
OBJECTS = {
    "sys/mounts/secret": "engine",
    "secret/data/backend": "secret",
    "secret/data/airflow": "secret",
    "sys/policies/acl/backend-policy": "policy",
    "sys/policies/acl/airflow-policy": "policy",
    "sys/auth/approle": "login_method",
    "auth/approle/role/backend": "login_role",
    "auth/approle/role/airflow": "login_role",
}
FIELDS = {
    "backend": "postgres_user postgres_password postgres_db minio_access_key minio_secret_key"
    " jwt_algorithm",
    "airflow": "postgres_user postgres_password postgres_db minio_access_key minio_secret_key"
    " fernet_key webserver_secret_key",
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(EXAMPLE) as running:
        made = running.json("apply", "-y")["data"]["actions"]
        kinds = {one["path"]: one["kind"] for one in made if one["kind"] != "audited_header"}
        assert kinds == OBJECTS
        yield running


@pytest.fixture
def manifest(stack: Stack, tmp_path: Path):
    """Writes a manifest in which one secret is changed, and returns its path."""

    def write(service: str, **fields: object) -> str:
        changed = yaml.safe_load(EXAMPLE.read_text())
        changed["engines"]["secret"]["secrets"][service] |= fields
        file = tmp_path / "changed.yaml"
        file.write_text(yaml.safe_dump(changed))
        return str(file)

    return write


def plan(stack: Stack, code: int = 0, file: str = "mounts.yaml") -> dict:
    return stack.json("plan", "--detailed-exitcode", "-f", file, check=code)["data"]


def values(stack: Stack, service: str) -> dict[str, str]:
    return stack.api("GET", f"secret/data/{service}")["data"]["data"]


def patch(stack: Stack, service: str, fields: dict[str, str]) -> None:
    stack.bao("kv", "patch", "-mount=secret", service, *(f"{k}={v}" for k, v in fields.items()))


def test_the_second_plan_is_empty(stack):
    made = plan(stack)
    assert (made["actions"], made["drift"], made["warnings"]) == ([], [], [])


def test_an_export_is_valid_its_plan_is_empty_and_it_has_no_secret(stack, tmp_path):
    file = tmp_path / "exported.yaml"
    told = stack.cli("export", "--out", str(file), exported=True).stderr
    assert stack.json("export")["data"]["text"] == file.read_text()
    written = yaml.safe_load(file.read_text())
    declared = yaml.safe_load(EXAMPLE.read_text())
    assert written["manifest"] == declared["manifest"]
    roles = written["auth"]["approle"]["roles"]
    assert list(roles) == sorted(declared["auth"]["approle"]["roles"])
    wanted = {"policies": ["backend-policy"], "token_ttl": "20m", "token_max_ttl": "24h"}
    assert roles["backend"] == wanted
    assert written["policies"].keys() == declared["policies"].keys()
    described = declared["engines"]["secret"]["description"]
    secrets = written["engines"]["secret"].pop("secrets")
    assert written["engines"]["secret"] == {"type": "kv", "description": described}
    for service, names in FIELDS.items():
        secrets[service].pop("rotate_version", None)  # another test may have rotated it
        assert secrets[service].keys() >= set(names.split())
        assert list(secrets[service].values()) == [{"live": True}] * len(secrets[service])
    assert "left out" not in told
    texts = [one for name in FIELDS for one in values(stack, name).values() if len(one) > 12]
    assert texts
    assert not [one for one in texts if one in file.read_text() + told]
    stack.cli("validate", "-f", str(file))
    planned = plan(stack, 0, str(file))
    assert (planned["actions"], planned["drift"], planned["warnings"]) == ([], [], [])
    pruned = stack.json("plan", "--prune", "--detailed-exitcode", "-f", str(file))["data"]
    assert (pruned["actions"], pruned["drift"], pruned["warnings"]) == ([], [], [])
    again = stack.json("export", "--out", str(file), check=5)
    assert [error["code"] for error in again["errors"]] == ["file-exists"]


def test_a_login_method_that_may_not_be_listed_is_a_warning(stack):
    policy = """path "*" { capabilities = ["create", "read", "update", "list", "sudo"] }
path "auth/approle/role" { capabilities = ["deny"] }"""
    stack.api("POST", "sys/policies/acl/no-list", {"policy": policy})
    made = stack.api("POST", "auth/token/create", {"policies": ["no-list"]})
    token = {"BAO_TOKEN": made["auth"]["client_token"]}
    done = stack.cli("export", "-o", "json", exported=True, env=token)
    assert "auth/approle/role: its entries were left out" in done.stderr
    assert "backend-policy" in done.stdout
    stack.api("DELETE", "sys/policies/acl/no-list")


def test_an_export_without_anything_to_write_says_so(stack):
    refused = stack.json("export", "--manifest", "nobody", check=64)
    assert [error["code"] for error in refused["errors"]] == ["no-mounts"]


def test_every_named_field_is_there_and_generated_ones_are_strong(stack):
    for service, names in FIELDS.items():
        found = values(stack, service)
        assert set(found) >= set(names.split())  # other tests add fields
        assert len(found["postgres_password"]) == 32
    assert values(stack, "backend")["jwt_algorithm"] == "HS256"
    assert len(base64.urlsafe_b64decode(values(stack, "airflow")["fernet_key"])) == 32
    other = values(stack, "airflow")
    assert values(stack, "backend")["postgres_password"] != other["postgres_password"]


@pytest.mark.slow
def test_no_value_is_in_a_plan_or_in_the_commands_output(stack):
    stack.api("DELETE", "secret/metadata/airflow")
    done = stack.cli("apply", "-y", exported=True)
    shown = done.stdout + done.stderr + stack.cli("plan", "-o", "json", exported=True).stdout
    assert "generated, 32 characters" in shown
    assert not [one for one in values(stack, "airflow").values() if len(one) > 12 and one in shown]


DRIFTS = [
    ("sys/mounts/secret", "sys/mounts/secret/tune", {"description": "other"}, "description"),
    ("auth/approle/role/backend", "auth/approle/role/backend", {"token_ttl": 1}, "token_ttl"),
    ("sys/auth/approle", "sys/auth/approle/tune", {"description": "x"}, "description"),
    (
        "sys/policies/acl/airflow-policy",
        "sys/policies/acl/airflow-policy",
        {
            "policy": '# managed-by:skyflowctl/service-platform\npath "secret/*" { capabilities = ["read"] }'
        },
        'path "secret/*"',
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "written", "body", "field"), DRIFTS)
def test_one_change_is_named_and_repaired(stack, path, written, body, field):
    stack.api("POST", written, body)
    (action,) = plan(stack, 2)["actions"]
    assert (action["action"], action["path"]) == ("update", path)
    assert field in [change["field"] for change in action["changes"]]
    stack.cli("apply", "-y", exported=True)
    assert plan(stack)["actions"] == []


def start_over(stack: Stack) -> None:
    headers = ("X-Skyflowctl-Run", "Application-Source")
    for path in (*OBJECTS, *(f"sys/config/auditing/request-headers/{one}" for one in headers)):
        if "/data/" not in path and "/role/" not in path:  # those go with their engine or method
            stack.api("DELETE", path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_kill_after_every_write_is_finished_by_the_next_run(stack):
    # 2 audited headers; each secret's marks and data; and every other object.
    last = 2 + 2 + len(OBJECTS)
    for writes in range(1, last + 1):
        start_over(stack)
        code = stack.killed(writes, "apply", "-y", "-p", "1")
        assert code == -signal.SIGKILL, f"after write {writes}: exit {code}"
        left = stack.json("apply", "-y")["data"]
        assert [one["path"] for one in left["actions"] if one["action"] == "delete"] == []
        made = plan(stack)
        assert (made["actions"], made["drift"]) == ([], []), f"after write {writes}"
        for service, names in FIELDS.items():
            assert values(stack, service).keys() == set(names.split()), f"after write {writes}"
    start_over(stack)
    assert stack.killed(last + 1, "apply", "-y", "-p", "1") == 0  # there are no more writes


AIRFLOW = ("secret/data/airflow", "sys/policies/acl/airflow-policy", "auth/approle/role/airflow")


@pytest.mark.slow
def test_a_prune_deletes_what_left_the_manifest_and_keeps_the_rest(stack, tmp_path):
    declared = yaml.safe_load(EXAMPLE.read_text())
    for section in (
        declared["engines"]["secret"]["secrets"],
        declared["auth"]["approle"]["roles"],
    ):
        del section["airflow"]
    del declared["policies"]["airflow-policy"]
    (file := tmp_path / "less.yaml").write_text(yaml.safe_dump(declared))
    kept = values(stack, "backend")
    stack.bao("kv", "put", "-mount=secret", "by-hand", "user=theirs")
    try:
        assert deleted(stack, file, AIRFLOW[0]) == {*AIRFLOW}
        assert (values(stack, "backend"), values(stack, "by-hand")) == (kept, {"user": "theirs"})
        stack.api("DELETE", "secret/metadata/by-hand")
        del declared["engines"], declared["auth"]
        file.write_text(yaml.safe_dump(declared))
        whole = ("sys/mounts/secret", "sys/auth/approle")
        assert {*whole} <= deleted(stack, file, *whole, "secret/data/backend")
        assert stack.api("GET", "sys/policies/acl/backend-policy")["data"]["policy"]
    finally:
        stack.cli("apply", "-y", exported=True)
    assert plan(stack)["actions"] == []


def deleted(stack: Stack, file: Path, *named: str) -> set[str]:
    """What a prune with this manifest deleted, after which nothing is left to do."""
    flags = ("--prune", "--allow-large-prune", "-f", str(file))
    allowed = [f"--allow-destroy={path}" for path in named]
    made = stack.json("apply", "-y", *flags, *allowed)["data"]["actions"]
    assert {(one["action"], one["result"]) for one in made} == {("delete", "done")}
    gone = {one["path"] for one in made}
    again = stack.json("plan", *flags)["data"]
    assert again["actions"] == []
    assert not gone & {one["path"] for one in again["drift"]}
    return gone


@pytest.mark.slow
def test_a_removed_field_is_added_and_the_others_are_kept(stack):
    before = values(stack, "backend")
    fewer = {name: value for name, value in before.items() if name != "minio_secret_key"}
    stack.api("POST", "secret/data/backend", {"data": {**fewer, "theirs": "x"}})
    (action,) = plan(stack, 2)["actions"]
    assert [change["field"] for change in action["changes"]] == ["minio_secret_key"]
    stack.cli("apply", "-y", exported=True)
    after = values(stack, "backend")
    assert after.pop("minio_secret_key") != before["minio_secret_key"]
    assert after == {**fewer, "theirs": "x"}


@pytest.mark.slow
def test_a_value_that_others_changed_is_kept(stack):
    patch(stack, "backend", {"postgres_user": "renamed"})
    assert plan(stack)["actions"] == []


@pytest.mark.slow
def test_a_deleted_secret_is_drift_and_stays_deleted(stack):
    stack.api("DELETE", "secret/data/airflow")
    made = plan(stack, 2)
    assert made["actions"] == []
    assert [(one["kind"], one["path"]) for one in made["drift"]] == [
        ("deleted", "secret/data/airflow")
    ]
    refused = stack.json("apply", "-y", check=3)
    assert [error["code"] for error in refused["errors"]] == ["deleted-secret"]
    with pytest.raises(urllib.error.HTTPError):
        values(stack, "airflow")
    restore = made["drift"][0]["fix"].removeprefix("to restore it: ").split(";")[0]
    stack.bao(*restore.split()[1:])
    assert plan(stack)["drift"] == []


def next_rotation(stack: Stack) -> int:
    custom = stack.api("GET", "secret/metadata/airflow")["data"]["custom_metadata"]
    return int(custom.get("rotate_version", 0)) + 1


@pytest.mark.slow
def test_rotate_version_writes_every_field_once(stack, manifest):
    file = manifest("airflow", rotate_version=next_rotation(stack))
    before = values(stack, "airflow")
    (action,) = plan(stack, 2, file)["actions"]
    assert action["path"] == "secret/data/airflow"
    stack.cli("apply", "-y", "-f", file, exported=True)
    after = values(stack, "airflow")
    assert after.keys() == before.keys()
    assert not [name for name in after if "key" in name and after[name] == before[name]]
    assert plan(stack, 0, file)["actions"] == []
    assert plan(stack)["actions"] == []


@pytest.mark.slow
def test_a_rotation_that_was_killed_after_the_marks_is_finished(stack, manifest):
    wanted, before = next_rotation(stack), values(stack, "airflow")
    file = manifest("airflow", rotate_version=wanted)
    version = stack.api("GET", "secret/metadata/airflow")["data"]["current_version"]
    mark = {"rotate_version": str(wanted), "rotate_after": str(version)}
    flags = [f"-custom-metadata={name}={value}" for name, value in mark.items()]
    stack.bao("kv", "metadata", "patch", "-mount=secret", *flags, "airflow")
    assert len(plan(stack, 2, file)["actions"]) == 1
    stack.cli("apply", "-y", "-f", file, exported=True)
    assert values(stack, "airflow")["fernet_key"] != before["fernet_key"]
    assert plan(stack, 0, file)["actions"] == []


@pytest.mark.slow
def test_custom_metadata_of_others_is_kept(stack, manifest):
    stack.bao("kv", "metadata", "patch", "-mount=secret", "-custom-metadata=team=data", "airflow")
    wanted = next_rotation(stack)
    stack.cli("apply", "-y", "-f", manifest("airflow", rotate_version=wanted), exported=True)
    custom = stack.api("GET", "secret/metadata/airflow")["data"]["custom_metadata"]
    assert (custom["team"], custom["manifest"], custom["rotate_version"]) == (
        "data", "service-platform", str(wanted))  # fmt: skip


@pytest.mark.slow
def test_on_the_dev_stack_no_reference_is_followed(stack, manifest):
    file = manifest("backend", minio_region={"env": "UNSET_REGION"})
    done = stack.cli("apply", "-y", "-f", file, exported=True)
    assert "generated" in done.stderr
    assert "UNSET_REGION" in done.stderr + done.stdout
    assert len(values(stack, "backend")["minio_region"]) > 20


@pytest.mark.slow
def test_a_secret_of_others_is_changed_only_when_it_is_named(stack, tmp_path):
    stack.api("POST", "secret/data/theirs", {"data": {"a": "b"}})
    changed = yaml.safe_load(EXAMPLE.read_text())
    changed["engines"]["secret"]["secrets"]["theirs"] = {"user": {"value": "app"}}
    file = tmp_path / "theirs.yaml"
    file.write_text(yaml.safe_dump(changed))
    refused = stack.json("apply", "-y", "-f", str(file), check=5)
    assert "--adopt=secret/data/theirs" in refused["errors"][0]["fix"]
    assert values(stack, "theirs") == {"a": "b"}
    stack.cli("apply", "-y", "-f", str(file), "--adopt=secret/data/theirs", exported=True)
    assert values(stack, "theirs") == {"a": "b", "user": "app"}
    assert plan(stack, 0, str(file))["actions"] == []
    stack.api("DELETE", "secret/metadata/theirs")


@pytest.mark.slow
def test_a_dry_run_starts_from_the_live_secrets(stack):
    done = stack.json("apply", "--dry-run")
    assert (done["status"], done["data"]["dry_run"]["left"]) == ("ok", 0)


def test_each_service_reads_its_own_secret_and_no_others(stack, tmp_path):
    services = {"backend": "airflow", "airflow": "backend"}
    for service in services:
        role, folder = f"auth/approle/role/{service}", tmp_path / service
        folder.mkdir()
        ids = stack.api("GET", f"{role}/role-id"), stack.api("POST", f"{role}/secret-id", {})
        for name, answer in zip(("role_id", "secret_id"), ids, strict=True):
            (folder / name).write_text(answer["data"][name])
    for service, other in services.items():
        assert check(stack, tmp_path / service, service, other).returncode == 0
    wrong = check(stack, tmp_path / "backend", "airflow", "backend")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "airflow cannot read its own secret" in wrong.stderr


def check(stack: Stack, folder: Path, *services: str) -> subprocess.CompletedProcess[str]:
    """Run the integration check of the example, as its services do."""
    environ = {**stack.environ, **stack.exports, "HOME": str(folder)}
    environ.pop("BAO_TOKEN")
    script = shutil.copy(EXAMPLES / "check-service.sh", folder)
    return subprocess.run(
        ["/bin/sh", script, str(folder), *services],
        env={**environ, "PATH": f"{BIN}:{environ['PATH']}"},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


REFERENCED = """\
version: 1
manifest: referenced
mounts: {}
engines:
  kv:
    type: kv
    secrets:
      backend: {api_key: {env: BACKEND_API_KEY}}
      other: {user: {value: app}}
"""


def test_a_reference_that_cannot_be_resolved_fails_its_secret_alone(tmp_path):
    (tmp_path / "mounts.yaml").write_text(REFERENCED)
    with running_bao() as server:
        environ = {**server.env(), "HOME": str(tmp_path)}
        stack = Stack(tmp_path, environ, {})
        warned = stack.json("plan")["data"]["warnings"]
        assert [one["code"] for one in warned] == ["secret-unresolved"]
        failed = stack.json("apply", "-y", check=3)
        assert [one["code"] for one in failed["errors"]] == ["reference-unset"]
        assert server.api("GET", "kv/metadata/backend")[0] == 404
        assert server.api("GET", "kv/data/other")[1]["data"]["data"] == {"user": "app"}
        done = stack.cli("apply", "-y", env={"BACKEND_API_KEY": "a-real-value-1"})
        assert "a-real-value-1" not in done.stdout + done.stderr
        assert server.api("GET", "kv/data/backend")[1]["data"]["data"] == {
            "api_key": "a-real-value-1"
        }
        assert plan(stack)["warnings"] == []
