"""Names for a shell's completion: what is asked for, the cache, the deadline, and hostile names."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest
from support.scripted import Answer, scripted

from skyflowctl.cli.context import live_names
from skyflowctl.cli.context.live_names import parse_words, read_cache, safe_names, write_cache
from skyflowctl.cli.context.name_sources import name_sources
from skyflowctl.clock import rfc3339
from skyflowctl.credentials.schemes import keyring
from skyflowctl.private_files import write_private
from skyflowctl.secret import Secret
from skyflowctl.vault.pending_store import SERVICE, FileStore, StoredRequest, encode_entries

SPEC = "mount role -f: --file: -o: --context:context --replace-credential:mount -n: --address:"
TOKEN = "s.a-token-of-a-test"  # noqa: S105 - a test's
HOSTILE = [
    "$(touch x)",
    "`id`",
    "a b",
    "\x1b[2J",
    "A",
    "-rf",
    "a;b",
    "x" * 64,
    "../a",
    "a//b",
    "",
    7,
]


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    for name in [one for one in os.environ if one.startswith(("BAO_", "VAULT_", "SKYFLOWCTL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for kind in ("CACHE", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], ("mount", "")),
        (["ord"], ("mount", "")),
        (["order", ""], ("role", "order")),
        (["-o", "json", "order", "p"], ("role", "order")),
        (["-v", "--output=json", "skyflow/order", ""], ("role", "skyflow/order")),
        (["order", "--context", ""], ("context", "")),
        (["order", "--context", "="], ("context", "")),
        (["order", "--context", "=", "pr"], ("context", "")),
        (["--replace-credential", ""], ("mount", "")),
        (["order", "producer", ""], None),
        (["order", "--", ""], None),
        (["order", "--context=pr"], ("context", "")),
        (["--file=moun"], None),
        (["-o", ""], None),
        (["-f", "-", ""], None),
        (["--outp"], None),
        (["$(id)", ""], None),
        (["../sys", ""], None),
    ],
)
def test_what_a_word_is(words, expected):
    found = parse_words(SPEC, words)
    assert (found and (found.kind, found.mount)) == expected


def test_a_last_kind_with_a_star_repeats_and_options_of_the_line_count():
    found = parse_words(
        "mount* -n: --namespace: --context:context", ["a", "b", "-n", "team", "--context=x", "s/"]
    )
    assert (found.kind, found.paths, found.namespace, found.context) == ("mount", True, "team", "x")
    assert found.asks_server
    assert not parse_words(SPEC, ["--address", "https://other", ""]).asks_server


def test_hostile_names_are_dropped():
    assert safe_names("mount", [*HOSTILE, "payment", "order", "team/order_2-x"]) == [
        "order", "payment", "team/order_2-x",
    ]  # fmt: skip
    accessors = [*HOSTILE, "lSuuw5ldgmzZEydJBfERhYs1.ns_1"]
    assert safe_names("accessor", accessors) == ["A", "lSuuw5ldgmzZEydJBfERhYs1.ns_1", "x" * 64]


def test_the_cache_is_private_and_ends_after_30_seconds(tmp_path):
    write_cache("one", ["order"], 1000.0)
    file = tmp_path / "CACHE" / "skyflowctl" / "completion.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert read_cache("mount", "one", 1029.9) == ["order"]
    assert read_cache("mount", "two", 1000.0) is None
    assert read_cache("mount", "one", 1030.0) is None
    assert read_cache("mount", "one", 999.0) is None
    write_cache("two", [], 1031.0)
    assert list(json.loads(file.read_text())) == ["two"]


def test_names_that_two_processes_store_at_once_are_both_kept(monkeypatch):
    """The second one begins while the first one writes."""
    second = Thread(target=write_cache, args=("two", ["payment"], 1000.0))

    def slowly(file, text):
        if second.ident is None:
            second.start()
            second.join(0.2)  # it would be done by then, if it did not wait
        write_private(file, text)

    monkeypatch.setattr(live_names, "write_private", slowly)
    write_cache("one", ["order"], 1000.0)
    second.join(10)
    assert read_cache("mount", "one", 1000.0) == ["order"]
    assert read_cache("mount", "two", 1000.0) == ["payment"]


def test_the_key_of_the_cache_cannot_be_computed_without_its_secret(tmp_path):
    wanted = parse_words(SPEC, [""])
    secret = tmp_path / "CACHE" / "skyflowctl" / "completion.key"
    keys = [live_names._key(wanted), live_names._key(wanted)]
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(secret.read_bytes()) == 32
    secret.write_bytes(b"cut off")  # by a kill
    keys += [live_names._key(wanted), live_names._key(wanted)]
    assert [keys.index(one) for one in keys] == [0, 0, 2, 2]
    secret.chmod(0o644)  # no secret any more: nothing is found in the cache
    assert live_names._key(wanted) not in keys


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"one": 1}', '{"one": ["x", []]}', "[" * 9000, '{"one": [1000]}']
)
def test_a_cache_that_cannot_be_used_is_none(tmp_path, text):
    write_cache("one", ["order"], 1000.0)
    (tmp_path / "CACHE" / "skyflowctl" / "completion.json").write_text(text)
    assert read_cache("mount", "one", 1000.0) is None


def test_a_cache_of_others_or_a_link_is_not_read_and_its_names_are_checked(tmp_path):
    write_cache("one", ["order", "$(id)", "A"], 1000.0)
    assert read_cache("mount", "one", 1000.0) == ["order"]
    file = tmp_path / "CACHE" / "skyflowctl" / "completion.json"
    file.chmod(0o644)
    assert read_cache("mount", "one", 1000.0) is None
    file.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o600)
    file.symlink_to(tmp_path / "elsewhere")
    assert read_cache("mount", "one", 1000.0) is None


def asked(*words, **environ) -> tuple[str, float]:
    """Return what a call prints, and how long it takes from the start of its own code."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "skyflowctl", "__complete", SPEC, *words],
        env={**os.environ, **environ}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, time.monotonic() - begun


def names_in_the_end(*words, wanted=1, **environ) -> list[str]:
    """Return the names of a call, or of a later one: on a slow machine the first has none."""
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        if len(found := asked(*words, **environ)[0].split()) >= wanted:
            return found
    raise AssertionError("no names")


def wait_until_cached(server, *words, **environ) -> None:
    """Wait until the names of a call are found without a request; the cache is written last."""
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        requests = len(server.seen)
        if asked(*words, **environ)[0] and len(server.seen) == requests:
            return
    raise AssertionError("not cached")


MOUNTS = {"data": {"secret": {
    "skyflow/order/": {"type": "skyflow"}, "team/pay/": {"type": "skyflow"},
    "kv/": {"type": "kv"}, "skyflow/$(touch x)/": {"type": "skyflow"},
}}}  # fmt: skip


def test_names_of_the_server_are_found_safe_and_cached_without_the_token(tmp_path):
    def script(seen):
        roles = {"data": {"keys": ["producer", *HOSTILE]}}
        return Answer(body=roles if "roles" in seen.path else MOUNTS)

    with scripted(Answer()) as server:
        server.script = script
        named = {"BAO_ADDR": server.address, "BAO_TOKEN": TOKEN}
        assert names_in_the_end("order", "", **named) == ["producer"]
        assert names_in_the_end("", **named) == ["order", "team/pay"]
        wait_until_cached(server, "", **named)
        assert {one.headers["x-vault-token"] for one in server.seen} == {TOKEN}
        assert_found_in_the_audit_log(server)
    assert names_in_the_end("", **named) == ["order", "team/pay"]  # there is no server now
    assert TOKEN not in (tmp_path / "CACHE" / "skyflowctl" / "completion.json").read_text()


def test_another_login_never_sees_the_names_of_the_one_before(tmp_path):
    """The cache is bound to the token, wherever it comes from."""

    def script(seen):
        allowed = seen.headers["x-vault-token"] == TOKEN
        return Answer(body=MOUNTS) if allowed else Answer(status=403, body={"errors": []})

    with scripted(Answer()) as server:
        server.script = script
        named = {"BAO_ADDR": server.address}
        assert names_in_the_end("", **named, BAO_TOKEN=TOKEN) == ["order", "team/pay"]
        assert asked("", **named, BAO_TOKEN=TOKEN[::-1])[0] == ""
        stored = tmp_path / ".vault-token"
        stored.write_text(TOKEN)
        assert names_in_the_end("", **named) == ["order", "team/pay"]
        stored.write_text(TOKEN[::-1])
        assert asked("", **named)[0] == ""
    cache = (tmp_path / "CACHE" / "skyflowctl" / "completion.json").read_text()
    assert "order" in cache
    assert not [one for one in (TOKEN, TOKEN[::-1], server.address) if one in cache]


def test_a_token_of_another_context_has_other_names(tmp_path):
    for folder in ("CONFIG", "STATE"):
        (tmp_path / folder / "skyflowctl").mkdir(parents=True)
    wanted = parse_words(SPEC, [""])
    keys = [live_names._key(wanted)]
    for file in ("CONFIG/skyflowctl/contexts.json", "STATE/skyflowctl/logins.json"):
        (tmp_path / file).write_text("{}")
        keys.append(live_names._key(wanted))
    assert len(set(keys)) == len(keys)


def test_names_of_the_manifest_and_of_the_server_are_offered_together(tmp_path):
    (tmp_path / "mounts.yaml").write_text(
        "version: 1\nmanifest: shop\nmounts:\n  new:\n    credentials: {env: NOT_SET}\n"
        "    roles: {producer: {role_ids: [x]}}\n"
    )
    assert names_in_the_end("") == ["new"]
    assert names_in_the_end("skyflow/new", "") == ["producer"]
    with scripted(Answer(body=MOUNTS)) as server:
        named = {"BAO_ADDR": server.address, "BAO_TOKEN": TOKEN}
        assert names_in_the_end("", **named, wanted=3) == ["new", "order", "team/pay"]


def test_a_manifest_is_enough_if_the_server_is_silent(tmp_path):
    (tmp_path / "mounts.yaml").write_text(
        "version: 1\nmanifest: shop\nmounts: {new: {credentials: {env: NOT_SET}}}\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        named = {"BAO_ADDR": f"http://127.0.0.1:{silent.getsockname()[1]}", "BAO_TOKEN": TOKEN}
        assert names_in_the_end("", **named) == ["new"]


def test_accessors_are_those_that_this_machine_stored_for_the_cluster(monkeypatch, tmp_path):
    marks = tmp_path / "STATE" / "skyflowctl" / "pending-files"
    filed = [_parked("acc3", 60), replace(_parked("acc4", 60), cluster="another")]
    FileStore(tmp_path / "pending.json", marks).change(lambda _: filed)

    def stored(service, username):
        assert (service, username) == (SERVICE, "a-cluster")
        return Secret(encode_entries([_parked("acc1", 60), _parked("acc2", -60)]))

    monkeypatch.setattr(keyring, "stored_unasked", stored)
    with scripted(Answer(status=429, body={"cluster_id": "a-cluster"})) as server:
        monkeypatch.setenv("BAO_ADDR", server.address)
        monkeypatch.setenv("BAO_TOKEN", TOKEN)
        wanted = parse_words("accessor --context:context", [""])
        assert [list(found) for found in name_sources(wanted)] == [["acc1", "acc3"]]
        assert "x-vault-token" not in server.seen[0].headers
        assert_found_in_the_audit_log(server)


def assert_found_in_the_audit_log(server):
    """Every request names a run, and who sent it."""
    for one in server.seen:
        assert re.fullmatch(r"[0-9a-z]{16}", one.headers["x-skyflowctl-run"])
        assert one.headers["application-source"] == "skyflowctl"


def _parked(accessor, seconds):
    ends = rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))
    texts = ["PUT", "sys/mounts/x", "", "", "", "", "run", "", "a-cluster"]
    return StoredRequest(Secret("hvs.wrapping"), accessor, *texts, ends)


def test_a_redirect_is_not_followed_and_another_server_of_the_line_is_not_asked():
    with scripted(Answer(body=MOUNTS)) as other:
        moved = Answer(status=307, headers={"Location": f"{other.address}/v1/x"})
        with scripted(moved) as server:
            named = {"BAO_ADDR": server.address, "BAO_TOKEN": TOKEN}
            assert asked("--address", other.address, "", **named)[0] == ""
            assert asked("", **named)[0] == ""
        assert other.seen == []


def test_a_server_that_never_answers_is_left_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        named = {"BAO_ADDR": f"http://127.0.0.1:{silent.getsockname()[1]}", "BAO_TOKEN": TOKEN}
        quick = asked("order", "producer", "", **named)[1]  # asks no server
        out, seconds = asked("", **named)
        assert out == ""
        # The start of Python and a busy machine are in both.
        assert seconds - quick < live_names.REQUEST_SECONDS / 2


def test_a_token_helper_is_not_run(tmp_path):
    helper = tmp_path / "helper"
    helper.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\necho {TOKEN}\n")
    helper.chmod(0o755)
    (tmp_path / ".bao").write_text(f'token_helper = "{helper}"\n')
    with scripted(Answer(body=MOUNTS)) as server:
        assert asked("", BAO_ADDR=server.address)[0] == ""
        assert server.seen == []
    assert not (tmp_path / "ran").exists()


def test_a_keyring_that_may_ask_is_not_read(monkeypatch):
    class Asking:
        def get_password(self, *_):
            raise AssertionError("it would open a window")

    monkeypatch.setattr(keyring, "_backend", Asking)
    assert keyring.stored_unasked("a service", "a user") is None
