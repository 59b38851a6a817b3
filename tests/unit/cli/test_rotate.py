"""``rotate`` and its ways from the command line on, against the real engine in memory."""

from __future__ import annotations

import shlex

import pytest
from support.cli import checked_data, checked_envelope, invoke
from support.gateways import identity, memory_rig
from support.rotate_cli import MANIFEST, further_key, reach

from skyflowctl.cli.context import gateways
from skyflowctl.credentials.errors import UnresolvedReferenceError


@pytest.fixture(scope="module")
def rig():
    made = memory_rig()
    yield made
    made.gateway.close()


@pytest.fixture(autouse=True)
def reached(rig, monkeypatch, tmp_path):
    return reach(rig, monkeypatch, tmp_path)


@pytest.fixture
def successor(rig, tmp_path):
    """A credential of the same account that mints, in key.json; and its mount."""
    path = rig.configured("reader")
    client_id = rig.gateway.engine(path).config().client_id
    return path, lambda: _successor(rig, client_id, tmp_path)


def _successor(rig, client_id, folder):
    text = further_key(rig, client_id)
    (folder / "key.json").write_text(text.reveal())
    return identity(text)[1]


def rotate(*words, code=0):
    done = invoke("rotate", *words, "-o", "json")
    assert done.exit_code == code, done.stdout
    return checked_data(done.stdout)["mounts"]


def test_a_mount_is_rotated_and_rolled_back(rig, successor):
    path, renew = successor
    before, new = rig.gateway.engine(path).config().key_id, renew()
    (one,) = rotate(path, "--credentials", "key.json", "-y")
    assert (one["result"], one["from"], one["to"], one["live_key_id"]) == (
        "rotated", before, new, new,
    )  # fmt: skip
    names = [step["name"] for step in one["steps"]]
    assert names.index("prove") < names.index("write") < names.index("commit")
    assert one["old_tokens_valid_until"] <= one["retire_after"] or one["retire_after"]
    (back,) = rotate("--rollback", path)
    assert (back["result"], back["live_key_id"]) == ("rolled_back", before)


def test_people_see_each_step_and_what_comes_next(rig, successor):
    path, renew = successor
    renew()
    done = invoke("rotate", path, "--credentials", "key.json", "-y")
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stderr.splitlines() if " ms " in line] != []
    for name in ("prove", "write", "verify-nodes", "commit"):
        assert f" {name} " in done.stderr
    assert done.stdout.startswith(f"{path} is rotated\n")
    assert f"skyflowctl rotate --retire {path}" in done.stdout
    assert f"skyflowctl rotate --rollback {path}" in done.stdout


def test_config_rollback_is_the_same(rig, successor):
    path, renew = successor
    before, _ = rig.gateway.engine(path).config().key_id, renew()
    rotate(path, "--credentials", "key.json", "-y")
    done = invoke("config", "rollback", path, "-o", "json")
    assert done.exit_code == 0, done.stdout
    assert checked_data(done.stdout)["mounts"][0]["live_key_id"] == before


def test_without_a_terminal_nothing_is_written_unasked(rig, successor):
    path, renew = successor
    renew()
    version = rig.gateway.engine(path).config().version
    done = invoke("rotate", path, "--credentials", "key.json", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["errors"][0]["code"]) == (5, "needs-confirmation")
    assert rig.gateway.engine(path).config().version == version
    (one,) = rotate(path, "--credentials", "key.json", "--dry-run")
    assert one["result"] == "would_rotate"
    assert rig.gateway.engine(path).config().version == version


def test_the_question_names_server_mount_and_what_comes(rig, successor):
    path, renew = successor
    renew()
    done = invoke("rotate", path, "--credentials", "key.json")
    live = rig.gateway.engine(path).config().key_id
    assert "server: a server in this process" in done.stderr
    assert f"{path}: {live} -> the key behind --credentials key.json" in done.stderr


def test_an_unchanged_reference_is_refused_with_the_ways_out(rig, tmp_path):
    credential = rig.new_credential()
    path = rig.mount()
    rig.gateway.engine(path).write_role("reader", {"role_ids": ["r-read"]})
    rig.gateway.engine(path).write_config({"credentials_json": credential})
    (tmp_path / "key.json").write_text(credential.reveal())
    name = path.rpartition("/")[2]
    (tmp_path / "mounts.yaml").write_text(MANIFEST % (f"m{name}", path))
    done = invoke("rotate", f"m{name}", "-y", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["status"]) == (5, "refused")
    assert whole["errors"][0]["code"] == "unchanged-credential"
    assert "--generate" in whole["errors"][0]["fix"]
    assert "--credentials" in whole["errors"][0]["fix"]
    assert identity(credential)[1] == whole["data"]["mounts"][0]["live_key_id"]


def test_no_successor_at_all_is_refused(rig):
    done = invoke("rotate", rig.configured("reader"), "-y", "-o", "json")
    assert done.exit_code == 5
    assert "--generate" in checked_envelope(done.stdout)["errors"][0]["fix"]


def test_generate_needs_an_operator(rig):
    done = invoke("rotate", rig.configured("reader"), "--generate", "-y", "-o", "json")
    assert done.exit_code == 5
    assert checked_envelope(done.stdout)["errors"][0]["code"] == "no-operator-token"


def test_a_dry_run_of_a_generated_key_proves_the_operator_and_what_is_live(rig, reached):
    path = rig.configured("reader")
    words = (path, "--generate", "--operator-token", "env:X", "--dry-run")
    (one,) = rotate(*words)
    (proof,) = [step for step in one["steps"] if step["name"] == "prove"]
    assert one["result"] == "would_rotate"
    assert "the operator sees 0 keys of the account, and 1 of 1 roles mint" in proof["detail"]
    assert reached.created == []


def test_nothing_due_is_a_success_without_a_question(rig, tmp_path):
    path = rig.configured("reader")
    (tmp_path / "mounts.yaml").write_text(MANIFEST % ("due-not", path))
    done = invoke("rotate", "--due")
    assert (done.exit_code, done.stdout) == (0, "Nothing is due. 1 mount\n")
    (one,) = rotate("--due")
    assert (one["result"], one["due"], one["steps"]) == ("not_due", "", [])


def test_due_without_a_manifest_is_wrong_usage():
    done = invoke("rotate", "--due", "-o", "json")
    assert checked_envelope(done.stdout)["errors"][0]["code"] == "no-manifest"
    assert done.exit_code == 64


def test_a_wrong_name_stops_everything_before_a_write(rig, successor):
    path, renew = successor
    renew()
    version = rig.gateway.engine(path).config().version
    done = invoke("rotate", path, "contract/nowhere", "-y", "-o", "json")
    assert (done.exit_code, rig.gateway.engine(path).config().version) == (64, version)
    assert "contract/nowhere" in checked_envelope(done.stdout)["errors"][0]["summary"]


def test_retire_now_names_what_it_kills_and_needs_the_path(rig, successor):
    path, renew = successor
    before, _ = rig.gateway.engine(path).config().key_id, renew()
    rotate(path, "--credentials", "key.json", "-y")
    done = invoke("rotate", "--retire", path, "--now", "-y", "--kept-copy-only", "-o", "json")
    problem = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, problem["code"]) == (5, "needs-allow-destroy")
    assert before in problem["why"]
    (one,) = rotate("--retire", path, "--now", f"--allow-destroy={path}", "--kept-copy-only")
    assert one["result"] == "retired"
    assert not rig.gateway.engine(path).history()[1].kept
    assert invoke("rotate", "--rollback", path).exit_code == 5


def test_retire_before_its_time_is_refused(rig, successor):
    path, renew = successor
    renew()
    rotate(path, "--credentials", "key.json", "-y")
    (one,) = rotate("--retire", path, "-y", "--kept-copy-only", code=5)
    assert (one["result"], rig.gateway.engine(path).history()[1].kept) == ("refused", True)


def rotated(rig, successor):
    """Return a mount that has an old key to retire, and that key."""
    path, renew = successor
    before, _ = rig.gateway.engine(path).config().key_id, renew()
    rotate(path, "--credentials", "key.json", "-y")
    return path, before


def manifest_of(folder, **mounts):
    head, _, body = MANIFEST.partition("mounts:\n")
    blocks = "".join(body % (name.replace("_", "-"), path) for name, path in mounts.items())
    (folder / "mounts.yaml").write_text(f"{head}mounts:\n{blocks}")


def test_too_early_is_told_before_anybody_is_asked(rig, successor):
    path, before = rotated(rig, successor)
    done = invoke("rotate", "--retire", path, "--kept-copy-only", "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["errors"][0]["code"]) == (5, "old-tokens-live")
    (one,) = whole["data"]["mounts"]
    assert (one["from"], one["live_key_id"]) == (before, rig.gateway.engine(path).config().key_id)


def test_retire_all_leaves_alone_what_has_nothing_to_retire_or_not_yet(rig, successor, tmp_path):
    path, _ = rotated(rig, successor)
    manifest_of(tmp_path, rotated=path, plain=rig.configured("reader"))
    mounts = rotate("--retire", "--all", "--kept-copy-only")
    assert [(one["result"], one["serves"]) for one in mounts] == [("not_due", None)] * 2
    assert rig.gateway.engine(path).history()[1].kept
    done = invoke("rotate", "--retire", "--all")
    assert (done.exit_code, done.stdout) == (0, "Nothing is due. 2 mounts\n")


def test_retire_all_retires_what_there_is(rig, successor, tmp_path):
    path, before = rotated(rig, successor)
    manifest_of(tmp_path, rotated=path, plain=rig.configured("reader"))
    words = (
        "--retire",
        "--all",
        "--now",
        f"--allow-destroy=/sys/mounts/{path}/",
        "--kept-copy-only",
    )
    mounts = rotate(*words)
    assert {one["name"]: one["result"] for one in mounts} == {
        "rotated": "retired", "plain": "not_due",
    }  # fmt: skip
    assert mounts[0]["from"] == before
    assert not rig.gateway.engine(path).history()[1].kept


def test_a_mount_without_a_credential_is_no_fine_day(rig, tmp_path):
    path = rig.configured("reader")
    manifest_of(tmp_path, cut=path)
    rig.gateway.engine(path).cut_off()
    for way in (["--due"], ["--retire", "--all"]):
        done = invoke("rotate", *way, "-o", "json")
        whole = checked_envelope(done.stdout)
        (one,) = whole["data"]["mounts"]
        assert (done.exit_code, one["result"], one["serves"]) == (6, "not_due", False)
        assert whole["data"]["warnings"][0]["code"] == "not-configured"
        done = invoke("rotate", *way)
        assert "cut has no credential" in done.stdout


@pytest.mark.parametrize("cut", [False, True], ids=["live", "cut off"])
@pytest.mark.parametrize("more", [(), ("-y",), ("--dry-run",)], ids=" ".join)
@pytest.mark.parametrize(
    ("flags", "subject"),
    [
        (("--credentials", "mistyped.json"), "the new credential"),
        (("--credentials", "key.json", "--previous", "env:UNSET"), "the credential of --previous"),
        (
            ("--generate", "--operator-token", "no-such/token", "--account-id", "a1"),
            "the operator token",
        ),
    ],
)
def test_a_reference_that_leads_nowhere_stops_before_anybody_is_asked(
    rig, successor, monkeypatch, cut, more, flags, subject
):
    path, renew = successor
    renew()
    if cut:
        rig.gateway.engine(path).cut_off()

    def unreached(*_):
        pytest.fail("the server was asked")

    monkeypatch.setattr(gateways, "open_gateway", unreached)
    done = invoke("rotate", path, *flags, *more, "-o", "json")
    whole = checked_envelope(done.stdout)
    assert (done.exit_code, whole["status"]) == (65, "error")
    assert whole["errors"][0]["summary"].startswith(f"{subject} (")


@pytest.mark.parametrize("cut", [False, True], ids=["live", "cut off"])
def test_a_file_that_holds_no_credential_stops_before_a_person_is_asked(
    rig, successor, tmp_path, cut
):
    path, _ = successor
    if cut:
        rig.gateway.engine(path).cut_off()
    (tmp_path / "key.json").write_text("shopping list")
    # Without -y it would be refused (5) where nobody can answer.
    done = invoke("rotate", path, "--credentials", "key.json", "-o", "json")
    assert done.exit_code == 65, done.output


def test_a_canary_that_is_no_role_stops_before_anything_is_made(rig, successor, reached):
    path, _ = successor
    for more in (["-y"], ["--dry-run"]):
        done = invoke(
            "rotate", path, "--generate", "--operator-token", "env:X", "--canary", "nope", *more,
            "-o", "json",
        )  # fmt: skip
        problem = checked_envelope(done.stdout)["errors"][0]
        assert (done.exit_code, problem["code"]) == (64, "no-such-role")
        assert "reader" in problem["why"]
    assert reached.created == []


def test_half_an_operator_is_never_ignored(rig, successor):
    path, renew = successor
    renew()
    words = ("rotate", path, "--credentials", "key.json", "-y", "--account-id", "a1", "-o", "json")
    done = invoke(*words)
    assert checked_envelope(done.stdout)["errors"][0]["code"] == "half-an-operator"
    assert rig.gateway.engine(path).config().rotation is None


def test_a_second_rollback_says_that_nothing_was_changed(rig, successor):
    path, _ = rotated(rig, successor)
    first = invoke("config", "rollback", path, "--allow-unverified-nodes", "--stale-after", "1s")
    assert f"{path} is rolled back\n" in first.stdout
    second = invoke("rotate", "--rollback", path)
    assert f"{path} is live already with that key; nothing was changed\n" in second.stdout


def test_the_live_key_that_is_not_there_is_not_called_the_new_one(rig, successor):
    path, renew = successor
    renew()
    words = ("rotate", path, "--credentials", "key.json", "--previous", "old.json", "-y")
    done = invoke(*words, "-o", "json")
    texts = [one["summary"] for one in checked_envelope(done.stdout)["errors"]]
    assert not any("new credential" in one for one in texts)


class TestRevoke:
    def words(self, path, *more):
        return ("config", "revoke", path, *more, "-o", "json")

    def test_it_cuts_off_and_tells_what_is_left(self, rig):
        path = rig.configured("reader")
        key = rig.gateway.engine(path).config().key_id
        done = invoke(*self.words(path, "--reason", "INC-42", "-y"))
        assert done.exit_code == 0, done.stdout
        data = checked_data(done.stdout)
        assert (data["cut_off"], data["reason"], data["live_key_id"]) == (True, "INC-42", key)
        assert data["run_id"] == checked_envelope(done.stdout)["run_id"]
        assert data["cannot_revoke"]
        assert not rig.gateway.engine(path).config().configured

    def test_people_get_a_page_for_the_incident_file(self, rig):
        path = rig.configured("reader")
        done = invoke("config", "revoke", path, "--reason", "INC-42", "-y")
        assert done.exit_code == 0, done.output
        for text in ("has been cut off", "INC-42", "What cannot be revoked", "--delete-keys"):
            assert text in done.stdout

    @pytest.mark.parametrize(
        ("more", "expected"),
        [
            (["-y"], (64, "needs-reason")),
            (["-y", "--reason", "  "], (64, "needs-reason")),
            (["--reason", "INC-42"], (5, "needs-confirmation")),
            (["--reason", "INC-42", "-y", "--delete-keys"], (5, "no-operator-token")),
        ],
    )
    def test_what_is_missing(self, rig, more, expected):
        path = rig.configured("reader")
        done = invoke(*self.words(path, *more))
        problem = checked_envelope(done.stdout)["errors"][0]
        assert (done.exit_code, problem["code"]) == expected
        assert rig.gateway.engine(path).config().configured

    def test_an_operator_token_that_cannot_be_read_does_not_hold_it_back(self, rig, reached):
        reached.error = UnresolvedReferenceError("there is no such token", code="reference-missing")
        path = rig.configured("reader")
        operator = ("--operator-token", "env:X", "--account-id", "a1")
        more = ("--reason", "it's out", "-y", "--delete-keys", *operator)
        done = invoke(*self.words(path, *more))
        whole = checked_envelope(done.stdout)
        assert (done.exit_code, whole["data"]["cut_off"]) == (3, True)
        assert "reference-missing" in [one["code"] for one in whole["errors"]]
        assert not rig.gateway.engine(path).config().configured
        # Once it is cut off, nobody can tell the management host: the line to copy has it.
        again = shlex.split(whole["data"]["next"])
        assert again[:3] == ["skyflowctl", "config", "revoke"]
        assert path in again
        assert again[again.index("--reason") + 1] == "it's out"
        assert again[again.index("--management-host") + 1].endswith(":443")
        reached.error = None
        done = invoke(*again[1:], "-o", "json")
        assert (done.exit_code, checked_data(done.stdout)["next"]) == (0, ""), done.stdout

    def test_a_protected_mount_needs_its_path_too(self, rig, reached, tmp_path):
        path = rig.configured("reader")
        text = (MANIFEST % ("kept", path)).replace("    roles:", "    protect: true\n    roles:")
        (tmp_path / "mounts.yaml").write_text(text)
        words = self.words("kept", "--reason", "INC-42", "-y")
        done = invoke(*words)
        assert (done.exit_code, checked_envelope(done.stdout)["errors"][0]["code"]) == (
            5, "needs-allow-destroy",
        )  # fmt: skip
        assert invoke(*words, "--allow-destroy=skyflow/other").exit_code == 5
        assert rig.gateway.engine(path).config().configured
        operator = ("--operator-token", "env:X", "--account-id", "a1")
        reached.created.append(rig.gateway.engine(path).config().key_id)
        done = invoke(*words, f"--allow-destroy={path}", *operator)
        assert done.exit_code == 0
        again = checked_data(done.stdout)["next"]
        assert f"--allow-destroy={path}" in again
        assert invoke(*shlex.split(again)[1:]).exit_code == 0

    def test_without_an_operator_no_command_is_printed_that_could_not_run(self, rig):
        path = rig.configured("reader")
        words = self.words(path, "--reason", "INC-42", "-y")
        assert checked_data(invoke(*words).stdout)["next"] == ""
        text = invoke(*words[:-2]).stdout
        assert "delete 1 key in Skyflow Studio" in text
        assert "HOST:PORT" not in text
