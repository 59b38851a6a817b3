"""Each writing command, and creds, against control groups on a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from support.approvals import ALL, Approvals, codes, free, guarded, only, proxy
from support.stack import BIN

pytestmark = [pytest.mark.real_server, pytest.mark.slow]
SECRET_PATHS = ("config", "config/verify")  # tests/unit/vault/test_guards.py: that is all of them
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def module_place(approvals: Approvals) -> Approvals:
    """The server as the example's manifest has it, whatever ran before."""
    approvals.stack.cli("apply", "-y", exported=True)
    return approvals


@pytest.fixture
def place(module_place) -> Iterator[Approvals]:
    """The server; nothing that a test leaves waiting meets the next one."""
    yield module_place
    module_place.withdraw_all()
    module_place.stack.cli("apply", "-y", exported=True)


@pytest.fixture
def keep(tmp_path) -> tuple[str, str]:
    return ("--pending", str(tmp_path / "pending.json"))


@pytest.fixture
def manifest(place, tmp_path):
    """A changed copy of the stack's manifest: ``manifest(old, new)`` returns its flags."""
    text = (place.stack.folder / "mounts.yaml").read_text()

    def changed(*pairs: str) -> tuple[str, ...]:
        new = text
        for old, put in zip(pairs[::2], pairs[1::2], strict=True):
            assert old in new
            new = new.replace(old, put)
        file = place.stack.folder / "changed.yaml"
        file.write_text(new)
        return ("-f", str(file))

    return changed


SPARE = """mounts:
  spare:
    description: Spare
    credentials: {file: credentials/spare.json}
    roles:
      spare-writer: {role_ids: [skyflow-role-spare], description: Spare}
"""


@pytest.fixture
def spare(place, manifest) -> Iterator[tuple[str, ...]]:
    """The flags of a manifest with one more mount, which is gone afterwards."""
    yield manifest("mounts:\n", SPARE)
    place.api("DELETE", "sys/mounts/skyflow/spare")


def results(envelope) -> dict[str, str]:
    return {one["path"]: one["result"] for one in envelope["data"]["actions"]}


def test_apply_leaves_one_request_and_carries_it_out_once_approved(place, keep, manifest):
    token = place.operator(guarded("skyflow/order/roles/*"))
    flags = manifest("Order service writer", "Order service, writes")
    apply = ("apply", "-y", *flags, *keep)
    answers = [place.run(token, *apply, check=7) for _ in range(3)]
    (accessor,) = place.waiting()
    for one in answers:
        (action,) = [each for each in one["data"]["actions"] if each["kind"] == "role"]
        assert (one["status"], action["result"]) == ("pending", "pending")
        assert action["pending"]["accessor"] == accessor
        assert one["data"]["summary"]["pending"] == 1
        assert codes(one) == ["approval-pending"]
    place.approve(accessor)
    done = place.run(token, *apply)
    (action,) = [each for each in done["data"]["actions"] if each["kind"] == "role"]
    assert (action["result"], action["sent_by_run"]) == ("done", answers[0]["run_id"])
    assert place.run(token, *apply)["data"]["actions"] == []
    assert place.waiting() == {}


def test_a_role_write_is_pending_and_is_carried_out_once_approved(place, keep):
    path = "skyflow/order/roles/order-producer"
    token = place.operator(guarded("skyflow/order/roles/*"))
    before = place.api("GET", path)[1]["data"]
    words = ("role", "write", "order", "order-producer", "--description", "by hand", "-y", *keep)
    first = place.run(token, *words, check=7)
    assert first["status"] == "pending"
    assert place.run(token, *words, check=7)["data"] == first["data"]
    assert place.api("GET", path)[1]["data"] == before
    (accessor,) = place.waiting()
    place.approve(accessor)
    assert place.run(token, *words)["data"]["result"] == "updated"
    after = place.api("GET", path)[1]["data"]
    assert (after["description"], after["version"]) == ("by hand", before["version"] + 1)
    assert place.run(token, *words)["data"]["result"] == "unchanged"
    assert place.waiting() == {}


@pytest.mark.parametrize("what", ["role", "mount"])
def test_an_apply_withdraws_what_its_manifest_no_longer_asks_for(place, keep, manifest, what):
    paths = {"role": "skyflow/order/roles/*", "mount": "sys/mounts/skyflow/spare"}
    pairs = {"role": ("Order service writer", "Orders"), "mount": ("mounts:\n", SPARE)}
    token = place.operator(guarded(paths[what]), guarded("skyflow/purchase/config"))
    words = ("config", "write", "purchase", "--description", "by hand")
    other = place.run(token, *words, *keep, check=7)["data"]["pending"]["accessor"]
    place.run(token, "apply", "-y", *manifest(*pairs[what]), *keep, check=7)
    (unwanted,) = set(place.waiting()) - {other}
    place.run(token, "apply", "purchase", "-y", *keep)
    assert set(place.waiting()) == {other, unwanted}
    assert place.run(token, "apply", "-y", *keep)["status"] == "ok"
    assert "no longer in the manifest" in place.told
    assert set(place.waiting()) == {other}


def test_a_request_whose_reply_was_lost_may_wait_twice_and_that_is_said(place, keep, manifest):
    token = place.operator(guarded("skyflow/order/roles/*"))
    lost: list[str] = []

    def after(path: str) -> bool:
        if path.startswith("skyflow/order/roles/") and between.seen[-1].startswith("P"):
            lost.append(path)
        return len(lost) == 1 and lost[0] == path

    with proxy(place.stack, after) as between:
        words = ("apply", "-y", *manifest("Order service writer", "Orders"), *keep)
        waits = place.run(token, *words, check=7, BAO_ADDR=between.address)
    (action,) = [one for one in waits["data"]["actions"] if one["result"] == "pending"]
    accessor = action["pending"]["accessor"]
    assert f"{lost[0]} may wait twice; approve {accessor}" in place.told
    assert len(place.waiting()) == 2
    place.approve(accessor)
    assert place.run(token, *words)["status"] == "ok"


def test_what_depends_on_a_pending_action_waits_and_the_rest_is_done(place, keep, manifest):
    token = place.operator(guarded("sys/mounts/skyflow/order/tune"))
    flags = manifest("Order orchestration", "Orders", "Purchase workflow", "Purchases")
    first = place.run(token, "apply", "-y", *flags, *keep, check=7)
    found = results(first)
    assert found["sys/mounts/skyflow/order/tune"] == "pending"
    assert found["skyflow/order/config"] == "waiting"
    assert found["skyflow/purchase/config"] == "done"
    counts = first["data"]["summary"]
    listed = list(found.values())
    assert [counts[word] for word in ("pending", "waiting", "failed")] == [
        1, listed.count("waiting"), 0,
    ]  # fmt: skip
    place.approve(next(iter(place.waiting())))
    assert set(results(place.run(token, "apply", "-y", *flags, *keep)).values()) == {"done"}


MOVES = {"skyflow/order": "skyflow/order-2", "skyflow/payment": "skyflow/payment-2"}


@pytest.fixture
def moved(place, manifest) -> Iterator[tuple[str, ...]]:
    """The flags of a manifest with two mounts at other paths; they are moved back afterwards."""
    entries = ", ".join(f"{{from: {old}, to: {new}}}" for old, new in MOVES.items())
    pairs = ["mounts:\n", f"moved: [{entries}]\nmounts:\n"]
    for old, new in MOVES.items():
        name = f"\n  {old.rpartition('/')[2]}:\n"
        pairs += [name, f"{name}    path: {new}\n"]
    yield manifest(*pairs)
    for old, new in MOVES.items():
        place.api("POST", "sys/remount", {"from": new, "to": old})


def test_two_moves_wait_side_by_side_and_each_is_made_once_approved(place, keep, moved):
    """This login may not read the status of a move, so that is found at the two paths."""
    token = place.operator(guarded("sys/remount", sudo=True))
    apply = ("apply", "-y", *moved, *keep, *(f"--allow-move={old}" for old in MOVES))
    for _ in range(3):
        one = place.run(token, *apply, check=7)
        assert [each["result"] for each in one["data"]["actions"]] == ["pending", "pending"]
        assert codes(one) == ["approval-pending"] * 2
    first, second = place.waiting()
    place.approve(first)
    one = place.run(token, *apply, check=7)
    assert sorted(each["result"] for each in one["data"]["actions"]) == ["done", "pending"]
    assert set(place.waiting()) == {second}
    place.approve(second)
    (action,) = place.run(token, *apply)["data"]["actions"]
    assert (action["action"], action["result"]) == ("move", "done")
    assert place.run(token, *apply)["data"]["actions"] == []
    assert place.waiting() == {}


def test_a_failed_action_beside_a_pending_one_is_partly_done(place, keep, manifest):
    # The server lists no denied parameters, so apply cannot see them before it writes.
    deny = (
        'path "skyflow/purchase/config" { capabilities = ["read", "update"]'
        ' denied_parameters = { "description" = [] } }'
    )
    token = place.operator(guarded("skyflow/payment/config"), deny)
    flags = manifest("Payment services", "Payments", "Purchase workflow", "Buying")
    envelope = place.run(token, "apply", "-y", *flags, *keep, check=3)
    assert envelope["status"] == "partial"
    found = results(envelope)
    assert found["skyflow/payment/config"] == "pending"
    assert found["skyflow/purchase/config"] == "failed"


class Watcher:
    """Collects whatever an approver could see, for as long as the block runs."""

    def __init__(self, place: Approvals) -> None:
        self._place = place
        self._over = threading.Event()
        self.seen: list[str] = []
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self._over.is_set():
            self.seen += [json.dumps(one) for one in self._place.waiting().values()]

    def keys(self) -> list[str]:
        """What was seen with a key in it."""
        return [one for one in self.seen if "private" in one.lower()]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_an_apply_sends_no_key_to_a_guarded_config_and_writes_nothing(place, keep, spare):
    token = place.operator(guarded("skyflow/spare/*"))
    with Watcher(place) as watcher:
        applied = place.run(token, "apply", "-y", *spare, *keep, check=5)
    assert codes(applied) == ["guarded_secret"]
    assert "server_file" in applied["errors"][0]["fix"]
    assert "skyflow/spare/" not in place.api("GET", "sys/mounts")[1]["data"]
    assert place.waiting() == {}
    assert watcher.keys() == []


def test_an_apply_of_several_mounts_names_the_guarded_one_and_applies_the_others(
    place, keep, manifest
):
    flags = manifest("mounts:\n", SPARE, "Purchase workflow", "Buying")
    token = place.operator(guarded("skyflow/spare/*"))
    try:
        with Watcher(place) as watcher:
            applied = place.run(token, "apply", "-y", *flags, *keep, check=3)
        assert applied["status"] == "partial"
        assert codes(applied) == ["guarded_secret"]
        assert "skyflow/spare/config" in applied["errors"][0]["summary"]
        assert "server_file" in applied["errors"][0]["fix"]
        found = results(applied)
        assert found["skyflow/spare/config"] == "failed"
        assert found["sys/mounts/skyflow/spare"] == "skipped"
        assert found["skyflow/purchase/config"] == "done"
        assert "skyflow/spare/" not in place.api("GET", "sys/mounts")[1]["data"]
        assert place.waiting() == {}
        assert watcher.keys() == []
    finally:
        place.api("DELETE", "sys/mounts/skyflow/spare")


def test_a_first_credential_is_not_sent_to_a_guarded_config(place, keep, tmp_path):
    place.api("POST", "sys/mounts/skyflow/spare", {"type": "skyflow"})
    token = place.operator(guarded("skyflow/spare/config"))
    file = tmp_path / "key.json"
    file.write_text((place.stack.dev / "credentials" / "order.json").read_text())
    words = ("config", "write", "spare", "--credentials", f"file:{file}", *keep)
    host = place.config()["token_uri"].split("/")[2]
    with Watcher(place) as watcher:
        refused = place.run(token, *words, "--allow-host", host, check=5)
    assert codes(refused) == ["guarded_secret"]
    assert place.waiting() == {}
    assert watcher.keys() == []
    place.api("DELETE", "sys/mounts/skyflow/spare")


@pytest.mark.parametrize("words", [("--generate",), ()])
@pytest.mark.parametrize("path", SECRET_PATHS)
def test_a_rotation_stops_before_intent_and_key_where_any_path_of_a_key_is_guarded(
    place, keep, path, words
):
    token = place.operator(guarded(f"skyflow/payment/{path}"))
    before = place.config("payment")
    made = created_keys(place)
    with Watcher(place) as watcher:
        envelope = place.run(token, "rotate", "payment", *words, "-y", *keep, check=5)
    assert codes(envelope) == ["guarded_secret"]
    assert f"v1/skyflow/payment/{path}" in envelope["errors"][0]["summary"]
    assert place.config("payment") == before
    assert created_keys(place) == made
    assert place.waiting() == {}
    assert watcher.keys() == []


@pytest.fixture
def bare(place, tmp_path) -> Iterator[tuple[str, ...]]:
    """The flags that name a key for ``skyflow/bare``, a mount without a credential."""
    place.api("POST", "sys/mounts/skyflow/bare", {"type": "skyflow"})
    file = tmp_path / "key.json"
    file.write_text((place.stack.dev / "credentials" / "order.json").read_text())
    host = place.config("order")["token_uri"].split("/")[2]
    yield ("--credentials", f"file:{file}", "--allow-host", host)
    place.api("DELETE", "sys/mounts/skyflow/bare")


@pytest.mark.parametrize("path", SECRET_PATHS)
def test_a_key_of_a_cut_off_mount_is_sent_to_no_guarded_path(place, keep, bare, path):
    token = place.operator(guarded(f"skyflow/bare/{path}"))
    with Watcher(place) as watcher:
        refused = place.run(token, "rotate", "bare", *bare, "-y", *keep, check=6)
    assert codes(refused) == ["guarded_secret", "mount-does-not-serve"]
    assert place.waiting() == {}
    assert watcher.keys() == []


@pytest.mark.parametrize("path", SECRET_PATHS)
def test_a_secret_that_is_parked_after_its_probe_is_withdrawn_and_said(place, keep, bare, path):
    """The guard is set when the server has answered the probe, and before the write."""
    token, full = place.operator(), f"skyflow/bare/{path}"
    posts: list[str] = []

    def after(asked: str) -> bool:
        if asked == full and between.seen[-1].startswith("POST ") and not posts:
            posts.append(asked)
            place.operator(guarded(full))
        return False

    with proxy(place.stack, after) as between:
        words = ("rotate", "bare", *bare, "-y", *keep)
        refused = place.run(token, *words, check=6, BAO_ADDR=between.address)
    assert posts == [full]
    assert codes(refused)[0] == "secret_parked", refused
    assert place.waiting() == {}
    assert not place.config("bare")["credentials_configured"]


# All that a rotation and a first credential write to a config.
WRITTEN = ("cas", "credentials_json", "description", "rotation_id", "rotation_keys", "rotation_to",
           "tags")  # fmt: skip


def test_a_policy_that_names_its_parameters_lets_a_rotation_through_with_a_warning(place):
    """And the fix of the warning ends it."""
    config, words = free("skyflow/payment/config"), ("rotate", "payment", "--generate", "-y")
    for probed, told in (((), ["guard-unknown"]), (("skyflowctl_guard_probe",), [])):
        token = place.operator(only(config, *WRITTEN, *probed))
        (mount,) = place.run(token, *words)["data"]["mounts"]
        assert mount["result"] == "rotated"
        assert [w["code"] for w in mount["warnings"] if w["code"] == "guard-unknown"] == told


def test_a_secret_to_a_guard_that_no_probe_may_find_is_withdrawn_and_said(place, keep, bare):
    token = place.operator(only(guarded("skyflow/bare/config"), *WRITTEN))
    refused = place.run(token, "config", "write", "bare", *bare, *keep, check=5)
    assert codes(refused) == ["secret_parked"]
    assert place.waiting() == {}
    assert not place.config("bare")["credentials_configured"]


def created_keys(place) -> str:
    """The accounts and keys that the dev stack's Skyflow has."""
    return (place.stack.dev / "emulator" / "accounts.json").read_text()


def test_a_rotation_of_a_free_config_makes_a_key(place):
    """The counter-proof of the test above: there the same command makes none."""
    made = created_keys(place)
    place.run(place.operator(), "rotate", "payment", "--generate", "-y")
    assert created_keys(place) != made


def test_creds_are_pending_and_then_a_token(place, keep):
    token = place.operator(guarded("skyflow/order/creds/*", controlled=ALL))
    words = ("creds", "order", "order-producer", "--ctx", "order:ORD-1")
    refused = place.run(token, *words, check=5)
    assert "--pending" in refused["errors"][0]["fix"]
    first = place.run(token, *words, *keep, check=7)
    assert (first["status"], first["data"]["pending"]["creation_path"]) == (
        "pending", "skyflow/order/creds/order-producer",
    )  # fmt: skip
    again = place.run(token, *words, *keep, check=7)
    assert again["data"] == first["data"]
    place.approve(first["data"]["pending"]["accessor"])
    assert place.run(token, *words, *keep)["data"]["access_token"].startswith("ey")
    assert place.waiting() == {}


def test_pending_creds_of_one_role_for_two_ctx_stand_side_by_side(place, keep):
    token = place.operator(guarded("skyflow/order/creds/*", controlled=ALL))
    found = []
    for ctx in ("order:1", "order:2", "order:1", "order:2"):
        waits = place.run(token, "creds", "order", "order-producer", "--ctx", ctx, *keep, check=7)
        found.append(waits["data"]["pending"]["accessor"])
    assert found[:2] == found[2:]
    assert set(place.waiting()) == set(found)
    for accessor in set(found):
        place.approve(accessor)
    for ctx in ("order:1", "order:2"):
        assert place.run(token, "creds", "order", "order-producer", "--ctx", ctx, *keep)["data"]
    assert place.waiting() == {}


@pytest.mark.parametrize("ttl", ["1h", ""])
def test_wrapped_creds_are_delivered_where_free_and_refused_where_guarded(place, keep, ttl):
    words = ("creds", "order", "order-producer", "--ctx", "order:ORD-1", "--wrap-ttl", "5m")
    free = place.run(place.operator(name="free"), *words)["data"]["wrap_token"]
    opened = place.api("POST", "sys/wrapping/unwrap", token=free)[1]
    assert opened["data"]["access_token"].startswith("ey")
    token = place.operator(guarded("skyflow/order/creds/*", ttl=ttl, controlled=ALL))
    refused = place.run(token, *words, *keep, check=5)
    assert codes(refused) == ["wrapped-never-runs"]
    assert place.waiting() == {}


def test_the_server_parks_a_wrapped_request_again_when_it_is_approved(place):
    """Why they are refused; when this fails, the server has learnt it."""
    token = place.operator(guarded("skyflow/order/creds/*", controlled=ALL))
    path, wrap = "skyflow/order/creds/order-producer?ctx=order:ORD-1", {"X-Vault-Wrap-TTL": "5m"}
    info = place.api("GET", path, token=token, headers=wrap)[1]["wrap_info"]
    place.approve(info["accessor"])
    again = place.api("POST", "sys/wrapping/unwrap", token=info["token"])[1]["wrap_info"]
    assert not place.waiting()[again["accessor"]]["approved"]


def test_a_revoke_is_pending_and_cuts_off_once_approved(place, keep, spare):
    place.stack.cli("apply", "-y", *spare, exported=True)
    token = place.operator(guarded("skyflow/spare/config"))
    words = ("config", "revoke", "spare", "--reason", "INC-7", "-y", *keep)
    first = place.run(token, *words, check=7)
    assert place.config("spare")["credentials_configured"]
    place.approve(first["data"]["pending"]["accessor"])
    done = place.run(token, *words, check=None)
    assert done["data"]["cut_off"], done
    assert not place.config("spare")["credentials_configured"]


def test_a_registration_is_pending_and_then_done(place, keep):
    entry = "sys/plugins/catalog/secret/skyflow"
    token = place.operator(guarded(entry, sudo=True))
    (known,) = [
        one for one in place.api("GET", "sys/plugins/catalog")[1]["data"]["detailed"]
        if one["name"] == "skyflow"
    ]  # fmt: skip
    before = place.api("GET", f"{entry}?version={known['version']}")[1]["data"]
    launcher = place.stack.dev / "plugins" / before["command"]
    words = ("plugin", "register", str(launcher), "--version", known["version"], "-y", *keep)
    first = place.run(token, *words, check=7)
    assert "not verified" in place.told
    place.approve(first["data"]["pending"]["accessor"])
    assert place.run(token, *words)["status"] == "ok"
    assert place.api("GET", f"{entry}?version={known['version']}")[1]["data"]["args"] == [
        "--env-names="
    ]
    place.api(
        "POST", entry, {name: before[name] for name in ("args", "command", "sha256", "version")}
    )


@pytest.mark.parametrize("way", ["lost", "killed"])
def test_a_lost_reply_to_the_unwrap_is_settled_by_reading_back(place, keep, way):
    token = place.operator(guarded("skyflow/order/config"))
    first = place.write(token, f"through {way}", *keep, check=7)
    place.approve(first["data"]["pending"]["accessor"])
    before, lost = place.config()["version"], []

    def after(path: str) -> bool:
        if path == "sys/wrapping/unwrap":
            lost.append(path)
            if way == "killed":
                command.kill()
            return True
        return False

    with proxy(place.stack, after) as between:
        env = {**place.stack.environ, **place.stack.exports, **place.env(token)}
        words = ["config", "write", "order", "--description", f"through {way}", *keep]
        command = subprocess.Popen(
            [str(BIN / "skyflowctl"), *words, "--address", between.address, "--token-file", "-"],
            env=env, cwd=place.stack.folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        _, told = command.communicate(token, timeout=60)
    assert command.returncode == (0 if way == "lost" else -signal.SIGKILL), told
    assert lost == ["sys/wrapping/unwrap"]
    again = place.write(token, f"through {way}", *keep, check=0)
    assert again["data"]["changed"] == []
    assert place.config()["version"] == before + 1
    assert place.waiting() == {}
    assert not Path(keep[1]).exists()


def test_the_keyring_keeps_a_request_when_no_file_is_named(place, tmp_path):
    token = place.operator(guarded("skyflow/order/config"))
    ring = tmp_path / "ring.json"
    env = {
        "PYTHON_KEYRING_BACKEND": "support.file_keyring.FileKeyring",
        "PYTHONPATH": str(TESTS),
        "TEST_KEYRING_FILE": str(ring),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    first = place.write(token, "by keyring", check=7, **env)
    assert first["data"]["pending"]["stored"] == "keyring"
    second = place.write(token, "by keyring", check=7, **env)
    assert second["data"] == first["data"]
    marks = [one for one in (tmp_path / "state").rglob("*") if one.is_file()]
    assert all(one.read_text() == "" for one in marks)
    place.approve(first["data"]["pending"]["accessor"])
    place.write(token, "by keyring", check=0, **env)
    assert json.loads(ring.read_text()) == {}
    assert not [one for one in (tmp_path / "state").rglob("*") if one.is_file()]


def test_the_wrapping_token_is_printed_nowhere(place, keep):
    token = place.operator(guarded("skyflow/order/config"))
    done = place.stack.cli(
        "config", "write", "order", "--description", "secret?", *keep, "-v", "-v",
        exported=True, env=place.env(token), check=7,
    )  # fmt: skip
    kept = json.loads(Path(keep[1]).read_text())["requests"][0]["token"]
    assert kept
    assert kept not in done.stdout + done.stderr


def test_a_rotation_whose_commit_is_parked_stays_open_and_is_gone_on_with(place, keep):
    token = place.operator(guarded("skyflow/payment/config/commit"))
    words = ("rotate", "payment", "--generate", "-y", *keep)
    first = place.run(token, *words, check=7)
    (mount,) = first["data"]["mounts"]
    assert (first["status"], mount["result"]) == ("pending", "pending")
    live = place.config("payment")
    assert (live["key_id"], live["rotation"]["state"]) == (mount["to"], "open")
    made = created_keys(place)
    assert place.run(token, *words, check=7)["data"]["mounts"][0]["result"] == "pending"
    (accessor,) = place.waiting()
    place.approve(accessor)
    done = place.run(token, *words)["data"]["mounts"][0]
    assert (done["result"], done["to"]) == ("rotated", mount["to"])
    assert place.config("payment")["rotation"]["state"] == "committed"
    assert created_keys(place) == made


def test_a_rollback_is_pending_and_then_done(place, keep):
    place.stack.cli("rotate", "payment", "--generate", "-y", exported=True)
    token = place.operator(guarded("skyflow/payment/config/rollback"))
    words = ("config", "rollback", "payment", *keep)
    live = place.config("payment")["key_id"]
    first = place.run(token, *words, check=7)
    assert first["data"]["mounts"][0]["result"] == "pending"
    assert place.config("payment")["key_id"] == live
    (accessor,) = place.waiting()
    place.approve(accessor)
    assert place.run(token, *words)["data"]["mounts"][0]["result"] == "rolled_back"
    assert place.config("payment")["key_id"] != live


def test_a_retirement_is_pending_and_then_done(place, keep):
    place.stack.cli("rotate", "purchase", "--generate", "-y", exported=True)
    token = place.operator(guarded("skyflow/purchase/config/history/*"))
    words = ("rotate", "--retire", "purchase", "--now", "--allow-destroy=skyflow/purchase", *keep)
    for _ in range(10):
        envelope = place.run(token, *words, check=None)
        if envelope["status"] != "pending":
            break
        assert envelope["data"]["mounts"][0]["result"] == "pending"
        (accessor,) = place.waiting()
        place.approve(accessor)
    assert envelope["data"]["mounts"][0]["result"] == "retired", envelope


def test_health_and_status_name_what_an_approval_guards(place):
    token = place.operator(guarded("skyflow/order/health", controlled=ALL))
    health = place.run(token, "health", check=6)
    states = {one["name"]: one["state"] for one in health["data"]["mounts"]}
    assert states["order"] == "forbidden"
    assert states["purchase"] == "ok"
    assert place.waiting() == {}
