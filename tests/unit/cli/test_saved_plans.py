"""plan --out and apply FILE, against a server in this process: what differs is refused."""

from __future__ import annotations

import hashlib
import json
import shlex
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as form
from jsonschema import Draft202012Validator
from support.cli import checked_data, checked_envelope, invoke
from support.fake_server import FakeCredentials
from support.keys import credential_text, rsa_key
from support.reached import MANIFEST, reached

from skyflowctl.cli import runner
from skyflowctl.cli.context import credential_sources
from skyflowctl.credentials.model import Credential, CredentialId
from skyflowctl.manifest.schema import schema_text
from skyflowctl.secret import Secret
from skyflowctl.vault.approvals import body_digest
from skyflowctl.vault.pending_store import FileStore, StoredRequest

DAY = timedelta(hours=24)


class KeyedCredentials(FakeCredentials):
    """Credentials with real keys; ``key`` is the name of the key that they have."""

    key = "first"

    def resolve(self, mount: str) -> Credential:
        who: CredentialId = self.identify(mount, None)
        text = credential_text(key=self.key, clientID=who.client_id, keyID=who.key_id)
        return Credential(who, Secret(text))


@pytest.fixture
def source(monkeypatch) -> KeyedCredentials:
    return KeyedCredentials()


@pytest.fixture
def server(tmp_path, monkeypatch, source):
    """A server on which the manifest was applied, and a role was then changed by hand."""
    found = reached(tmp_path, monkeypatch)
    monkeypatch.setattr(credential_sources, "credentials_for", lambda *_: source)
    assert invoke("apply", "-y").exit_code == 0
    found.roles["skyflow/order"]["writer"]["description"] = "by hand"
    found.log.clear()
    return found


def save(*args: str) -> dict[str, Any]:
    done = invoke("plan", "--out", "p.json", *args)
    assert done.exit_code == 0, done.stderr
    return document()


def document() -> dict[str, Any]:
    return json.loads(Path("p.json").read_text())


def rewrite(**changes: Any) -> None:
    """Change the saved plan as somebody who knows the digest's rule would."""
    rest = {**document(), **changes}
    rest.pop("sha256")
    Path("p.json").write_text(json.dumps({**rest, "sha256": body_digest(rest)}))


def refused(server, *words: str) -> str:
    """Apply the plan, which is refused with these words, and nothing is written."""
    server.log.clear()
    done = invoke("apply", "p.json")
    told = " ".join(done.stderr.split())
    assert (done.exit_code, server.writes()) == (5, []), told
    for word in words:
        assert word in told
    assert "skyflowctl plan" in told
    return told


def later(monkeypatch, span: timedelta) -> None:
    class Later(runner.SystemClock):
        def now(self) -> datetime:
            return datetime.now(UTC) + span

    monkeypatch.setattr(runner, "SystemClock", Later)


class TestTheFile:
    def test_it_fits_its_schema_and_is_this_user_s_alone(self, server) -> None:
        saved = save()
        Draft202012Validator(json.loads(schema_text("saved-plan"))).validate(saved)
        assert stat.S_IMODE(Path("p.json").stat().st_mode) == 0o600
        assert [one["path"] for one in saved["actions"]] == ["skyflow/order/roles/writer"]
        assert (saved["cluster_id"], saved["inputs"][0]["path"]) == ("fake", "mounts.yaml")

    def test_each_credential_is_there_by_its_public_key(self, server) -> None:
        der = (
            rsa_key()
            .public_key()
            .public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
        )
        found = save()["credentials"]
        assert [one["mount"] for one in found] == ["order", "pay"]
        assert {one["spki_sha256"] for one in found} == {hashlib.sha256(der).hexdigest()}
        assert "PRIVATE" not in Path("p.json").read_text()

    def test_its_digest_is_over_the_rest(self, server) -> None:
        saved = save()
        assert body_digest({k: v for k, v in saved.items() if k != "sha256"}) == saved["sha256"]

    def test_the_result_names_it(self, server) -> None:
        done = invoke("plan", "--out", "p.json", "-o", "json")
        found = checked_data(done.stdout)["saved"]
        saved = document()
        assert found == {"path": "p.json"} | {k: saved[k] for k in ("expires_at", "sha256")}

    def test_people_get_the_command_that_applies_it(self, server) -> None:
        done = invoke("plan", "-f", "mounts.yaml", "--out", "p.json")
        assert "\n  skyflowctl apply p.json\n" in done.stderr

    def test_an_earlier_plan_is_replaced_and_nothing_else(self, server) -> None:
        save()
        save()
        Path("other.json").write_text("{}")
        done = invoke("plan", "--out", "other.json")
        assert (done.exit_code, Path("other.json").read_text()) == (5, "{}")

    def test_its_name_must_be_one_that_apply_takes(self, server) -> None:
        done = invoke("plan", "--out", "plan.out")
        assert (done.exit_code, Path("plan.out").exists()) == (64, False)

    def test_a_plan_that_would_be_refused_is_not_saved(self, server) -> None:
        server.mounts["skyflow/pay"]["options"]["manifest"] = "other"
        done = invoke("plan", "--out", "p.json", "-o", "json")
        assert checked_data(done.stdout)["saved"] is None
        assert "the plan was not saved" in done.stderr
        assert not Path("p.json").exists()

    @pytest.mark.parametrize(
        ("text", "files", "code"),
        [
            (MANIFEST.replace("{env: PAY_KEY}", "{stdin: true}"), ("-f", "mounts.yaml"), 65),
            (MANIFEST, ("-f", "-"), 64),
        ],
        ids=["reference", "manifest"],
    )
    def test_standard_input_cannot_be_read_again(self, server, text, files, code) -> None:
        Path("mounts.yaml").write_text(text)
        done = invoke("plan", *files, "--out", "p.json", stdin=text)
        assert (done.exit_code, Path("p.json").exists()) == (code, False)


class TestApply:
    def test_what_was_saved_is_done_without_a_question(self, server) -> None:
        save()
        done = invoke("apply", "p.json", "-o", "json")
        assert done.exit_code == 0, done.stderr
        data = checked_data(done.stdout)
        assert [(one["path"], one["result"]) for one in data["actions"]] == [
            ("skyflow/order/roles/writer", "done")
        ]
        assert server.roles["skyflow/order"]["writer"]["description"] == ""

    def test_it_is_used_up_then(self, server) -> None:
        save()
        assert invoke("apply", "p.json").exit_code == 0
        refused(server, "nothing is to be changed there now")

    def test_it_has_its_mounts_and_permissions(self, server) -> None:
        server.mounts["skyflow/pay"]["options"].pop("manifest")
        server.mounts["skyflow/pay"]["options"].pop("managed_by")
        assert save("pay", "--adopt", "skyflow/pay")["options"] == {
            "mounts": ["pay"],
            "adopt": ["skyflow/pay"],
        }
        done = invoke("apply", "p.json", "-o", "json")
        assert done.exit_code == 0, done.stderr
        assert {one["mount"] for one in checked_data(done.stdout)["actions"]} == {"pay"}

    def test_an_empty_plan_can_be_saved_and_applied(self, server) -> None:
        invoke("apply", "-y")
        assert save()["actions"] == []
        done = invoke("apply", "p.json")
        assert (done.exit_code, "No changes" in done.stdout) == (0, True)


CHANGES: dict[str, tuple[Callable[..., object], str]] = {
    "a file": (
        lambda server, source: Path("mounts.yaml").write_text(MANIFEST.replace("shop", "shop-2")),
        "mounts.yaml is not as it was",
    ),
    "a key with another id": (
        lambda server, source: setattr(source, "number", 2),
        "the credential of order is not that of the plan",
    ),
    "a key with the same id": (
        lambda server, source: setattr(source, "key", "second"),
        "the credential of pay is not that of the plan",
    ),
    "the same role again": (
        lambda server, source: server.roles["skyflow/order"]["writer"].update(description="two"),
        "the change of role skyflow/order/roles/writer is another one now",
    ),
    "another role": (
        lambda server, source: server.roles["skyflow/pay"]["reader"].update(description="two"),
        "role skyflow/pay/roles/reader is to be changed now, and the plan does not have it",
    ),
    "nothing that is declared": (
        lambda server, source: server.mounts["skyflow/pay"]["options"].update(note="mine"),
        "the server was changed after the plan was made",
    ),
    "another server": (
        lambda server, source: setattr(server, "cluster_id", "other"),
        "the plan is for another cluster id",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_any_difference_is_refused(server, source, what) -> None:
    save()
    change, words = CHANGES[what]
    change(server, source)
    refused(server, words)


def test_what_is_not_declared_may_change(server) -> None:
    save()
    server.mounts["kv"] = {"type": "kv", "options": {}}
    assert invoke("apply", "p.json").exit_code == 0


def test_a_variable_of_the_manifest_is_part_of_it(server) -> None:
    Path("mounts.yaml").write_text(MANIFEST.replace("skyflow-writer", '"${ROLE}"'))
    assert invoke("plan", "--out", "p.json", env={"ROLE": "skyflow-writer"}).exit_code == 0
    done = invoke("apply", "p.json", env={"ROLE": "skyflow-admin"})
    assert (done.exit_code, server.writes()) == (5, [])
    assert "or a variable in it" in done.stderr


class TestTheFileIsNotTrusted:
    def test_an_accident_is_seen(self, server) -> None:
        save()
        Path("p.json").write_text(Path("p.json").read_text().replace("by hand", "by hamd"))
        refused(server, "p.json was changed after it was saved")

    def test_another_change_is_not_carried_out(self, server) -> None:
        actions = save()["actions"]
        actions[0]["changes"][0]["after"] = "evil"
        rewrite(actions=actions)
        refused(server, "the change of role skyflow/order/roles/writer is another one now")

    def test_it_expires_after_a_day(self, server, monkeypatch) -> None:
        save()
        later(monkeypatch, DAY + timedelta(minutes=1))
        refused(server, "p.json has expired", "24 hours after it was made")

    def test_it_lives_that_long(self, server, monkeypatch) -> None:
        save()
        later(monkeypatch, DAY - timedelta(minutes=1))
        assert invoke("apply", "p.json").exit_code == 0

    def test_another_version_s_is_refused(self, server) -> None:
        save()
        rewrite(tool="0.9.0")
        refused(server, "that was skyflowctl 0.9.0")

    def test_another_address_is_refused(self, server) -> None:
        save()
        rewrite(address="https://elsewhere:8200", namespace="shop")
        refused(server, "another address", "another namespace")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            "[" * 100_000,
            '{"format": "skyflowctl-plan/2"}',
            '{"format": "skyflowctl-plan/1"}',
            '{"format": ["skyflowctl-plan/1"]}',
            "\udcff",
        ],
        ids=["empty", "list", "no-format", "deep", "other-format", "bare", "typed", "bytes"],
    )
    def test_what_is_no_plan_is_invalid(self, server, text) -> None:
        Path("p.json").write_bytes(text.encode(errors="surrogateescape"))
        done = invoke("apply", "p.json", "-o", "json")
        assert done.exit_code == 65
        assert [one["code"] for one in checked_envelope(done.stdout)["errors"]] == [
            "not-a-saved-plan"
        ]

    def test_a_field_of_the_wrong_form_is_named(self, server) -> None:
        save()
        rewrite(inputs=[{"path": 7, "sha256": "0" * 64}])
        done = invoke("apply", "p.json")
        assert (done.exit_code, "inputs[0].path does not fit" in done.stderr) == (65, True)

    def test_text_that_is_no_unicode_is_invalid(self, server) -> None:
        save()
        text = Path("p.json").read_text().replace("by hand", "\\ud800")
        Path("p.json").write_text(text)
        done = invoke("apply", "p.json", "-o", "json")
        assert done.exit_code == 65
        assert [one["code"] for one in checked_envelope(done.stdout)["errors"]] == [
            "not-a-saved-plan"
        ]

    def test_a_time_that_is_none_is_invalid(self, server) -> None:
        save()
        rewrite(expires_at="tomorrow")
        assert invoke("apply", "p.json").exit_code == 65


@pytest.mark.parametrize(
    "more",
    [
        ("order",),
        ("-f", "mounts.yaml"),
        ("--prune",),
        ("--adopt", "skyflow/pay"),
        ("--dry-run",),
        ("--allow-host", "tokens.example.com:443"),
        ("other.json",),
    ],
    ids=str,
)
def test_it_stands_alone(server, more) -> None:
    save()
    server.log.clear()
    done = invoke("apply", "p.json", *more)
    assert (done.exit_code, server.log) == (64, [])
    assert "exclude each other" in done.stderr


def test_a_file_that_is_not_there_is_no_mount(server) -> None:
    done = invoke("apply", "q.json", "-y")
    assert (done.exit_code, "there is no saved plan at q.json" in done.stderr) == (64, True)


def test_what_cannot_be_read_any_more_is_refused(server) -> None:
    save()

    def hook(method: str, path: str) -> None:
        from skyflowctl.vault.failed_answers import error_for

        if path.startswith("skyflow/pay/"):
            raise error_for(403, ("permission denied",), method=method, path=path)

    server.hook = hook
    done = invoke("apply", "p.json")
    assert (done.exit_code, server.writes()) == (5, [])


class TestTheRestOfABegunPlan:
    """What an apply leaves that wrote one change and parked the other."""

    @pytest.fixture
    def begun(self, server) -> Callable[[], None]:
        server.roles["skyflow/pay"]["reader"]["description"] = "by hand"
        saved = save()
        server.roles["skyflow/order"]["writer"]["description"] = ""

        def store(plan: str = saved["sha256"]) -> None:
            soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
            parked = StoredRequest(
                Secret("t"), "a", "POST", "skyflow/pay/roles/reader", "", "", "d", "b", "r",
                "shop", server.cluster_id, soon, plan,
            )  # fmt: skip
            FileStore(Path.cwd() / "pending.json").change(lambda _: [parked])

        return store

    def test_it_is_applied_by_the_same_command(self, server, begun) -> None:
        begun()
        done = invoke("apply", "p.json", "--pending", "pending.json", "-o", "json")
        assert done.exit_code == 0, done.stderr
        actions = checked_data(done.stdout)["actions"]
        assert [one["path"] for one in actions] == ["skyflow/pay/roles/reader"]
        assert server.roles["skyflow/pay"]["reader"]["description"] == ""

    @pytest.mark.parametrize("what", ["no request", "one of another plan", "a change elsewhere"])
    def test_it_is_refused(self, server, begun, what) -> None:
        if what == "one of another plan":
            begun("0" * 64)
        elif what == "a change elsewhere":
            begun()
            server.headers["x-other"] = {"hmac": False}
        server.log.clear()
        done = invoke("apply", "p.json", "--pending", "pending.json")
        assert (done.exit_code, server.writes()) == (5, [])

    def test_another_change_is_no_rest(self, server, begun) -> None:
        begun()
        server.roles["skyflow/order"]["writer"]["description"] = "again"
        done = invoke("apply", "p.json", "--pending", "pending.json")
        assert (done.exit_code, "another one now" in done.stderr) == (5, True)


def test_it_has_the_hosts_that_it_was_made_with(server) -> None:
    saved = save("--allow-host", "tokens.example.com:443")
    assert saved["options"] == {"allow_host": ["tokens.example.com:443"]}
    assert invoke("apply", "p.json").exit_code == 0


def test_in_another_folder_the_fix_names_the_right_one(server, monkeypatch) -> None:
    save()
    Path("sub").mkdir()
    saved = Path("p.json").absolute()
    monkeypatch.chdir("sub")
    done = invoke("apply", "../p.json", "-o", "json")
    whole = checked_envelope(done.stdout)
    (problem,) = whole["errors"]
    assert (done.exit_code, problem["code"], server.writes()) == (65, "manifest-not-found", [])
    assert "relative to the folder where it was made" in problem["why"]
    monkeypatch.chdir(saved.parent)
    _, command = problem["fix"].split("then: skyflowctl ")
    assert "-f" not in command.split()
    assert invoke(*shlex.split(command)).exit_code == 0
