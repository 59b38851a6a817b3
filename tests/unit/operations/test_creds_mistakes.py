"""``creds``: the same mistake has the same code through the server, in a dry run and past it."""

from __future__ import annotations

import json

import pytest
from support.cli import checked_data, checked_envelope, invoke
from support.gateways import Rig, memory_rig
from support.keys import credential_text

from skyflowctl.credentials import resolve
from skyflowctl.devstack.layout import DevLayout
from skyflowctl.devstack.state import DevState, Part, ProcessRecord, save_state
from skyflowctl.errors import ExitCode, InvalidInputError, UsageError
from skyflowctl.operations.creds import read_creds, read_wrapped_creds
from skyflowctl.vault.engine_api import EngineClient
from skyflowctl.vault.failed_answers import error_for

MANIFEST = """version: 1
manifest: shop
mounts:
  order:
    credentials: {file: key.json}
    roles:
      writer:
        role_ids: [r]
        ctx: {pattern: "order:*", probe: "order:probe"}
"""
WAYS = {"server": (), "dry run": ("--dry-run",), "direct": ("--direct",)}


@pytest.fixture(scope="module")
def rig():
    made = memory_rig()
    yield made
    made.gateway.close()


@pytest.fixture(scope="module")
def path(rig: Rig):
    path = rig.configured()
    fields = {"role_ids": ["r-read"], "ctx_pattern": "order:*", "ctx_probe": "order:probe"}
    rig.gateway.engine(path).write_role("writer", fields)
    return path


READERS = [
    lambda rig, path, role, ctx: read_creds(rig.gateway, path, role, ctx),
    lambda rig, path, role, ctx: read_wrapped_creds(rig.gateway, path, role, ctx, "5m"),
]


@pytest.mark.parametrize("read", READERS)
def test_the_engines_refusals_of_arguments_are_usage_errors(rig, path, read):
    with pytest.raises(UsageError) as refused:
        read(rig, path, "nobody", None)
    assert refused.value.problems[0].code == "no-such-role"
    assert refused.value.problems[0].fix == "name writer"
    for ctx in (None, "ticket:secret", {"a": "secret"}):
        with pytest.raises(UsageError) as refused:
            read(rig, path, "writer", ctx)
        problem = refused.value.problems[0]
        assert (refused.value.exit_code, problem.code) == (ExitCode.USAGE, "bad-ctx")
        assert all((problem.summary, problem.why, problem.fix))
        assert "the role asks for order:*" in problem.fix
        assert "secret" not in repr(problem)


@pytest.mark.parametrize("read", READERS)
def test_a_login_that_may_not_read_roles_is_told_less(rig, path, read, monkeypatch):
    def forbidden(*_):
        raise error_for(403, ("permission denied",), method="GET", path="x")

    monkeypatch.setattr(EngineClient, "roles", forbidden)
    monkeypatch.setattr(EngineClient, "role", forbidden)
    for role, ctx, code in (("nobody", None, "no-such-role"), ("writer", None, "bad-ctx")):
        with pytest.raises(UsageError) as refused:
            read(rig, path, role, ctx)
        assert refused.value.problems[0].code == code


def test_a_mount_without_a_credential_is_nobodys_wrong_argument(rig):
    with pytest.raises(InvalidInputError):
        read_creds(rig.gateway, rig.mount(), "writer", None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mounts.yaml").write_text(MANIFEST)
    (tmp_path / "key.json").write_text(credential_text())
    return tmp_path


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ctx", ["", "{", "[1]\n", "x" * 513])
def test_a_ctx_that_is_none_is_refused_before_anything_is_asked(folder, way, ctx):
    env = {"BAO_ADDR": "http://127.0.0.1:9"}
    done = invoke("creds", "order", "writer", "--ctx", ctx, *WAYS[way], "-o", "json", env=env)
    error = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, error["code"]) == (64, "bad-ctx")


@pytest.mark.parametrize("way", ["dry run", "direct"])
@pytest.mark.parametrize("ctx", ["ticket:1", json.dumps({"a": "b"})])
def test_the_roles_rule_is_a_usage_error_without_a_server_too(folder, way, ctx):
    done = invoke("creds", "order", "writer", "--ctx", ctx, *WAYS[way], "-o", "json")
    error = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, error["code"]) == (64, "bad-ctx")


@pytest.fixture
def dev_stack(folder):
    """What ``dev env`` exports for a stack of this folder; nothing runs."""
    state = DevState(server=Part(ProcessRecord(1, 0.0), 18200), cluster_id="c")
    root = folder / ".skyflowctl" / "dev"
    DevLayout(root).create()
    save_state(DevLayout(root), state)
    return {"BAO_ADDR": "https://127.0.0.1:18200", "SKYFLOWCTL_DEV_DIR": str(root)}


@pytest.mark.parametrize("address", ["BAO_ADDR", "VAULT_ADDR"])
def test_direct_is_refused_where_the_dev_stack_is_the_server(dev_stack, address, monkeypatch):
    monkeypatch.setattr(resolve.ReferenceResolver, "resolve", forbidden)
    named = {**dev_stack, "BAO_ADDR": None, address: dev_stack["BAO_ADDR"]}
    done = invoke("creds", "order", "writer", "--ctx=order:x", "--direct", "-o", "json", env=named)
    error = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, error["code"]) == (64, "dev-stack-named")


def test_a_dry_run_follows_no_reference_where_the_dev_stack_is_the_server(dev_stack, monkeypatch):
    monkeypatch.setattr(resolve.ReferenceResolver, "resolve", forbidden)
    words = ("creds", "order", "writer", "--ctx=order:x", "--dry-run", "-o", "json")
    done = invoke(*words, env=dev_stack)
    assert checked_data(done.stdout)["key_id"] == "throw-away-order"
    assert "dev stack" in done.stderr


def test_elsewhere_a_dry_run_signs_with_the_manifests_key(dev_stack, folder):
    words = ("creds", "order", "writer", "--ctx=order:x", "--dry-run", "-o", "json")
    key_id = json.loads((folder / "key.json").read_text())["keyID"]
    for env in ({}, {**dev_stack, "BAO_ADDR": "https://127.0.0.1:18201"}):
        assert checked_data(invoke(*words, env=env).stdout)["key_id"] == key_id


def forbidden(*_):
    raise AssertionError("a reference was followed")


@pytest.mark.parametrize("way", ["--dry-run", "--direct"])
@pytest.mark.parametrize("other", ["--dev", "--wrap-ttl=5m"])
def test_only_flags_that_were_given_are_named(way, other):
    done = invoke("creds", "order", "writer", way, other)
    assert done.exit_code == 64
    assert f"{way} and {other.partition('=')[0]} exclude each other" in done.stderr
    left = {"--dry-run", "--direct", "--dev", "--wrap-ttl"} - {way, other.partition("=")[0]}
    assert not any(flag in done.stderr for flag in left)
