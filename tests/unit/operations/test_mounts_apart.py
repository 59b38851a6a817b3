"""One product line's trouble stays its own: MOUNT arguments, and keys that are no good."""

from __future__ import annotations

import pytest
from support.cli import checked_data, checked_envelope, invoke
from support.fake_server import FakeCredentials
from support.reached import reached

from skyflowctl.cli.context import credential_sources
from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.errors import InvalidInputError
from skyflowctl.vault.errors import OutcomeUnknownError, ServerUnreachableError
from skyflowctl.vault.waits import seconds_left


@pytest.fixture
def server(tmp_path, monkeypatch):
    return reached(tmp_path, monkeypatch)


@pytest.fixture
def applied(server):
    assert invoke("apply", "-y").exit_code == 0
    server.log.clear()
    return server


class Trouble(FakeCredentials):
    """The credential of ``pay`` cannot be used."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def identify(self, mount, live):
        if mount == "pay":
            raise self.error
        return super().identify(mount, live)


ERRORS = {
    "expired": InvalidInputError("the credential of pay: it expired", code="key-expired"),
    "broken": InvalidInputError("the credential of pay: this is no JSON", code="no-json"),
    "unreadable": UnresolvedReferenceError(
        "the credential of pay cannot be read", why="permission denied"
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
class TestOneCredentialIsNoGood:
    @pytest.fixture(autouse=True)
    def trouble(self, monkeypatch, kind):
        self.fix = lambda: monkeypatch.setattr(
            credential_sources, "credentials_for", lambda *_: FakeCredentials()
        )
        self.spoil = lambda: monkeypatch.setattr(
            credential_sources, "credentials_for", lambda *_: Trouble(ERRORS[kind])
        )

    def test_the_other_mounts_are_planned(self, server):
        self.spoil()
        done = invoke("plan", "--detailed-exitcode", "-o", "json")
        whole = checked_envelope(done.stdout)
        assert (done.exit_code, whole["status"]) == (3, "partial")
        assert ["pay" in one["summary"] for one in whole["errors"]] == [True]
        paths = [one["path"] for one in checked_data(done.stdout)["actions"]]
        assert "skyflow/order/config" in paths
        assert "skyflow/pay/roles/reader" in paths

    def test_the_other_mounts_are_applied_and_it_is_3(self, server):
        self.spoil()
        done = invoke("apply", "-y", "-o", "json")
        whole = checked_envelope(done.stdout)
        assert (done.exit_code, whole["status"]) == (3, "partial")
        assert server.configs["skyflow/order"]["credentials_configured"]
        assert "credentials_configured" not in server.configs["skyflow/pay"]
        assert all("pay" in one["summary"] for one in whole["errors"])
        self.fix()
        assert invoke("apply", "-y").exit_code == 0
        assert server.configs["skyflow/pay"]["credentials_configured"]

    def test_nothing_is_called_right_that_was_not_compared(self, applied):
        self.spoil()
        for command in (("plan",), ("apply", "-y")):
            done = invoke(*command)
            assert done.exit_code == 3
            assert "No changes" not in done.stdout
            assert "pay" in done.stderr

    def test_the_mount_itself_can_be_left_out(self, applied):
        self.spoil()
        assert invoke("plan", "order", "--detailed-exitcode").exit_code == 0
        assert invoke("apply", "order", "-y").exit_code == 0


def test_one_bad_key_does_not_stop_a_mount_that_names_no_credential(applied, tmp_path, monkeypatch):
    manifest = tmp_path / "mounts.yaml"
    without = manifest.read_text().replace("    credentials: {env: ORDER_KEY}\n", "")
    manifest.write_text(without.replace("skyflow-writer", "skyflow-changed"))
    monkeypatch.setattr(
        credential_sources, "credentials_for", lambda *_: Trouble(ERRORS["expired"])
    )
    done = invoke("plan", "--detailed-exitcode", "-o", "json")
    assert (done.exit_code, checked_envelope(done.stdout)["status"]) == (3, "partial")
    done = invoke("apply", "-y", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["status"]) == (3, "partial")
    assert ["pay" in one["summary"] for one in whole["errors"]] == [True]
    assert applied.roles["skyflow/order"]["writer"]["role_ids"] == ["skyflow-changed"]


def test_no_valid_credential_at_all_is_65(server, monkeypatch):
    monkeypatch.setattr(
        credential_sources, "credentials_for", lambda *_: Trouble(ERRORS["expired"])
    )
    assert invoke("plan", "pay").exit_code == 65


class TestMountArguments:
    def test_a_name_and_a_path_mean_the_mount(self, server):
        for word in ("pay", "skyflow/pay"):
            done = invoke("plan", word, "-o", "json")
            actions = checked_data(done.stdout)["actions"]
            assert {one["mount"] for one in actions} == {"", "pay"}

    def test_apply_touches_no_other(self, applied):
        for name, role in (("order", "writer"), ("pay", "reader")):
            applied.roles[f"skyflow/{name}"][role]["description"] = "changed"
        done = invoke("apply", "pay", "-y", "-o", "json")
        assert done.exit_code == 0
        assert applied.writes() == [("POST", "skyflow/pay/roles/reader")]
        assert [one["mount"] for one in checked_data(done.stdout)["verified"]] == ["pay"]
        assert not any(path.startswith("skyflow/order") for _, path, _ in applied.log)

    def test_the_drift_of_others_is_not_its_business(self, applied):
        applied.mounts["skyflow/gone"] = dict(applied.mounts["skyflow/pay"])
        applied.roles["skyflow/order"]["old"] = {"role_ids": ["x"], "version": 1}
        assert invoke("plan", "pay", "--detailed-exitcode").exit_code == 0
        assert invoke("plan", "order", "--detailed-exitcode").exit_code == 2

    @pytest.mark.parametrize("command", ["plan", "apply"])
    def test_a_name_that_the_manifest_lacks_is_wrong_usage(self, server, command):
        done = invoke(command, "nobody", "order")
        assert done.exit_code == 64
        assert "nobody" in done.stderr
        assert "order, pay" in done.stderr

    def test_a_dry_run_is_about_them_alone(self, server, monkeypatch):
        nobody = FakeCredentials(missing=frozenset({"order", "pay"}))
        monkeypatch.setattr(credential_sources, "credentials_for", lambda *_: nobody)
        done = invoke("apply", "pay", "--dry-run", "-o", "json")
        data = checked_data(done.stdout)
        assert {one["mount"] for one in data["dry_run"]["minted"]} == {"pay"}

    @pytest.mark.parametrize("command", ["status", "health"])
    def test_status_and_health_take_them_too(self, applied, command):
        done = invoke(command, "pay", "-o", "json")
        assert [one["name"] for one in checked_data(done.stdout)["mounts"]] == ["pay"]


class TestF8AMountWhoseProcessHangs:
    """The server answers, and a mount's process does not: that mount fails by name."""

    def hangs(self, server, *beginnings: str):
        left = {}

        def hook(method, path):
            if path.startswith(beginnings):
                left[path] = seconds_left(60)
                raise OutcomeUnknownError(f"no answer: {path}", why="none in time", fix="f")

        server.hook = hook
        return left

    def test_the_others_are_compared_and_it_is_named_within_a_deadline(self, applied):
        left = self.hangs(applied, "skyflow/pay/")
        done = invoke("plan", "-o", "json")
        assert done.exit_code == 3
        (error,) = checked_envelope(done.stdout)["errors"]
        assert "skyflow/pay" in error["summary"]
        assert checked_data(done.stdout)["summary"]["unchanged"] > 0
        assert left
        assert all(0 < seconds <= 10 for seconds in left.values())

    def test_a_server_that_answers_no_more_is_69_as_a_whole(self, applied):
        self.hangs(applied, "skyflow/", "sys/mounts")
        done = invoke("plan", "-o", "json")
        assert done.exit_code == 69

    def test_the_whole_servers_trouble_is_waited_for_as_long_as_ever(self, applied):
        asked = []

        def hook(method, path):
            if path == "skyflow/pay/config":
                asked.append(seconds_left(60))
                if len(asked) == 1:
                    raise ServerUnreachableError("an election", why="no leader", fix="wait")

        applied.hook = hook
        assert invoke("plan", "-o", "json").exit_code == 0
        short, long = asked[:2]
        assert (short <= 10, long) == (True, 60)
