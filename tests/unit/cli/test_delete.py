"""``role delete``, ``mount disable``, and the check before a DELETE: the real engine in memory."""

from __future__ import annotations

import pytest
from support.cli import checked_data, checked_envelope, invoke
from support.gateways import memory_rig
from support.reached import reach_gateway

from skyflowctl.cli.runner import CommandRun
from skyflowctl.errors import RefusedError
from skyflowctl.executor.deletes import delete_object
from skyflowctl.planner.prune import mount_deletion, role_deletion

MANIFEST = """version: 1
manifest: shop
mounts:
  order:
    path: {path}
    protect: {protect}
    credentials: {{env: KEY}}
    roles:
      writer: {{role_ids: [r-read]}}
"""
MARK = "managed-by:skyflowctl/shop"


@pytest.fixture(scope="module")
def rig():
    made = memory_rig()
    yield made
    made.gateway.close()


@pytest.fixture(autouse=True)
def folder(rig, monkeypatch, tmp_path):
    reach_gateway(rig.gateway, monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def declare(folder, path, *, protect=False):
    text = MANIFEST.format(path=path, protect=str(protect).lower())
    (folder / "mounts.yaml").write_text(text)


def outcome(*words):
    done = invoke(*words, "-o", "json")
    if done.exit_code:
        return done.exit_code, checked_envelope(done.stdout)["errors"][0]["code"]
    return 0, checked_data(done.stdout)["result"]


class TestRoleDelete:
    def test_it_is_deleted_and_then_it_is_absent(self, rig):
        path = rig.configured("reader", "writer")
        assert outcome("role", "delete", path, "reader", "-y") == (0, "deleted")
        assert list(rig.gateway.engine(path).roles()) == ["writer"]
        assert outcome("role", "delete", path, "reader", "-y") == (0, "absent")
        assert "does not exist" in invoke("role", "delete", path, "reader", "-y").stdout

    def test_it_needs_a_confirmation(self, rig):
        path = rig.configured("reader")
        assert outcome("role", "delete", path, "reader") == (5, "needs-confirmation")
        assert list(rig.gateway.engine(path).roles()) == ["reader"]

    def test_a_missing_mount_is_a_mistake(self):
        assert outcome("role", "delete", "no/mount", "reader", "-y") == (64, "not-mounted")

    @pytest.mark.parametrize(
        "tags", [[], ["managed-by:skyflowctl/other"], [MARK, "adopted-by:skyflowctl/shop"]]
    )
    def test_one_that_the_manifest_did_not_make_needs_its_path(self, rig, folder, tags):
        path = rig.configured("reader")
        rig.gateway.engine(path).write_role("reader", {"tags": tags})
        declare(folder, path)
        words = ("role", "delete", path, "reader", "-y")
        assert outcome(*words) == (5, "needs-allow-destroy")
        fix = checked_envelope(invoke(*words, "-o", "json").stdout)["errors"][0]["fix"]
        assert outcome(*words, fix.split()[-1]) == (0, "deleted")

    def test_one_that_the_manifest_made_needs_only_yes(self, rig, folder):
        path = rig.configured("reader")
        rig.gateway.engine(path).write_role("reader", {"tags": [MARK]})
        declare(folder, path)
        assert outcome("role", "delete", path, "reader", "-y") == (0, "deleted")


def test_a_role_of_others_has_every_spelling_that_apply_takes(rig, folder):
    path = rig.configured("reader", "writer")
    declare(folder, path)
    for role, spelling in (("reader", "sys/mounts/{}/roles/{}"), ("writer", "/{}/roles/{}/")):
        words = ("role", "delete", path, role, "-y")
        assert outcome(*words, f"--allow-destroy={path}/roles/other")[0] == 5
        flag = f"--allow-destroy={spelling.format(path, role)}"
        assert outcome(*words, flag) == (0, "deleted")


class TestMountDisable:
    def test_its_path_is_given_twice(self, rig):
        path = rig.configured("reader")
        assert outcome("mount", "disable", path) == (5, "needs-allow-destroy")
        assert outcome("mount", "disable", path, "--allow-destroy=else/where")[0] == 5
        done = invoke("mount", "disable", path, f"--allow-destroy={path}", "-o", "json")
        data = checked_data(done.stdout)
        assert (data["result"], data["roles"]) == ("disabled", ["reader"])
        assert data["key_id"]
        assert rig.gateway.sys.mount(path) is None
        assert outcome("mount", "disable", path) == (0, "absent")

    @pytest.mark.parametrize("spelling", ["sys/mounts/{}", "/sys/mounts/{}/", "/{}/"])
    def test_its_path_has_every_spelling_that_apply_takes(self, rig, spelling):
        path = rig.configured("reader")
        flag = f"--allow-destroy={spelling.format(path)}"
        assert outcome("mount", "disable", path, flag) == (0, "disabled")

    def test_on_a_terminal_it_asks_unless_it_was_told(self, rig, monkeypatch):
        asked = []
        monkeypatch.setattr(CommandRun, "may_ask", True)
        monkeypatch.setattr(CommandRun, "confirm", lambda _, text, **__: asked.append(text))
        path = rig.configured("reader")
        words = ("mount", "disable", path, f"--allow-destroy={path}")
        assert invoke(*words).exit_code == 0
        assert [path in question for question in asked] == [True]
        rig.gateway.sys.enable_mount(path, {"type": "skyflow"})
        assert invoke(*words, "--no-input").exit_code == 0
        assert len(asked) == 1

    def test_a_mount_of_another_type_is_refused(self, rig):
        flag = "--allow-destroy=cubbyhole"
        rig.gateway.sys.enable_mount("contract/kv", {"type": "kv"})
        assert outcome("mount", "disable", "contract/kv", flag) == (5, "type-differs")

    def test_a_protected_one_is_refused(self, rig, folder):
        path = rig.configured("reader")
        declare(folder, path, protect=True)
        flag = f"--allow-destroy={path}"
        assert outcome("mount", "disable", path, flag) == (5, "prune-protected")
        (folder / "mounts.yaml").unlink()
        rig.gateway.sys.tune_mount(path, {"options": {"protect": "true"}})
        assert outcome("mount", "disable", path, flag) == (5, "prune-protected")


class TestTheCheckBeforeADelete:
    """A DELETE has no check-and-set."""

    def test_a_role_that_changed_after_the_plan_stays(self, rig):
        path = rig.configured("reader")
        action = role_deletion("order", path, rig.gateway.engine(path).role("reader"))
        for text in ("changed", ""):  # and back
            rig.gateway.engine(path).write_role("reader", {"description": text})
        with pytest.raises(RefusedError, match="version"):
            delete_object(action, rig.gateway)
        assert "reader" in rig.gateway.engine(path).roles()

    def test_a_mount_that_got_another_role_after_the_plan_stays(self, rig):
        path, gateway = rig.configured("reader"), rig.gateway
        live = gateway.sys.mount(path)
        action = mount_deletion(live, gateway.engine(path).roles(), gateway.engine(path).config())
        gateway.engine(path).write_role("new", {"role_ids": ["r-read"]})
        with pytest.raises(RefusedError, match="roles"):
            delete_object(action, gateway)
        assert gateway.sys.mount(path)

    def test_one_that_is_gone_is_done(self, rig):
        path = rig.configured("reader")
        action = role_deletion("order", path, rig.gateway.engine(path).role("reader"))
        delete_object(action, rig.gateway)
        delete_object(action, rig.gateway)
