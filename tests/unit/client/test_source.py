"""Tokens are kept until a margin before their end, read once for all, and renewed unnoticed."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.scripted import Answer
from support.token_server import (
    MOUNT,
    ROLE,
    SECRET_ID,
    HandTime,
    refusal,
    source_of,
    token_server,
)

from skyflowctl.client import (
    AppRole,
    ClientSettingsError,
    FixedToken,
    Jwt,
    LoginRefusedError,
    PermissionDeniedError,
    RequestRefusedError,
    ServerUnavailableError,
    TokenFile,
    TokenSource,
    TokenSourceError,
)


@pytest.fixture
def server():
    with token_server() as running:
        yield running


@pytest.fixture
def clock() -> HandTime:
    return HandTime()


def until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def down(_seen):
    return refusal(503, "Vault is sealed")


def settle(source: TokenSource) -> None:
    """Wait until the workers, which sleep by real time, have done all that is due by hand."""
    cache = source._cache

    def settled() -> bool:
        with cache.changed:
            cache.changed.notify_all()
            waits = [one.seconds_to_refresh(cache._clock.monotonic()) for one in kept(source)]
            flying = any(one.flight for one in kept(source))
            return not flying and all(one is None or one > 0 for one in waits)

    until(settled)


def kept(source: TokenSource) -> list:
    return list(source._cache._kept.values())


def test_a_token_is_read_once_for_each_mount_role_and_ctx(server, clock):
    with source_of(server, clock) as source:
        first = source.token(MOUNT, ROLE, ctx="order:1")
        assert first.access_token == "bearer-1-order:1"
        assert (first.token_type, first.key_id) == ("Bearer", "k1")
        assert first.authorization == "Bearer bearer-1-order:1"
        assert first.seconds_left() == 3600
        assert source.token(f"/{MOUNT}/", ROLE, ctx="order:1") is first
        others = [
            source.token(MOUNT, ROLE, ctx="order:2"),
            source.token(MOUNT, "other", ctx="order:1"),
            source.token("skyflow/payment", ROLE, ctx="order:1"),
            source.token(MOUNT, ROLE),
            source.token(MOUNT, ROLE, ctx={"order": 1, "vip": True}),
        ]
        assert len({one.access_token for one in [first, *others]}) == 6
        assert source.token(MOUNT, ROLE, ctx={"vip": True, "order": 1}) is others[-1]
    assert server.creds == 6


def test_at_least_five_minutes_are_left_while_the_server_answers(server, clock):
    """A token that nobody used meanwhile is renewed by the caller, not before."""
    with source_of(server, clock) as source:
        first = source.token(MOUNT, ROLE)
        source._cache._kept.popitem()[1].used = False
        for passed in range(0, 7200, 60):
            clock.now = 1_000_000.0 + passed
            token = source.token(MOUNT, ROLE)
            assert token.seconds_left() >= 300
    assert token is not first
    assert server.creds <= 7200 / 2400 + 2


def test_a_used_token_is_renewed_before_its_margin_without_a_caller(server, clock):
    with source_of(server, clock) as source:
        first = source.token(MOUNT, ROLE)
        assert source.token(MOUNT, ROLE) is first
        clock.now += 2410
        settle(source)
        assert server.creds == 2
        clock.now += 2500
        settle(source)
        assert server.creds == 2  # the second was not used


def test_many_threads_share_one_read_and_one_login(server, clock):
    asked = threading.Event()

    def slowly(seen):
        if "/creds/" in seen.path:
            asked.set()
            time.sleep(0.2)

    server.before = slowly
    login = AppRole("order", SECRET_ID)
    with source_of(server, clock, login) as source, ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: source.token(MOUNT, ROLE, "c"), range(64)))
    assert asked.is_set()
    assert len({one.access_token for one in found}) == 1
    assert (server.creds, server.logins) == (1, 1)


def test_a_failed_read_fails_all_that_wait_for_it_once(server, clock):
    server.before = down
    seen_by: list[TokenSourceError] = []

    def ask(source) -> None:
        try:
            source.token(MOUNT, ROLE)
        except ServerUnavailableError as error:
            seen_by.append(error)

    with source_of(server, clock, attempts=2) as source, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: ask(source), range(8)))
    assert len(seen_by) == 8
    assert len(set(map(id, seen_by))) == 8  # each thread its own, with its own traceback
    assert len(server.server.seen) <= 16


def test_the_kept_tokens_are_bounded(server, clock):
    with source_of(server, clock, entries=10) as source:
        for number in range(50):
            source.token(MOUNT, ROLE, ctx=f"order:{number}")
        assert len(source._cache._kept) == 10
        source.token(MOUNT, ROLE, ctx="order:49")
        assert server.creds == 50
        source.token(MOUNT, ROLE, ctx="order:0")
        assert server.creds == 51


def test_an_outage_is_not_noticed_until_the_token_ends(server, clock):
    with source_of(server, clock) as source:
        first = source.token(MOUNT, ROLE)
        clock.now += 3500
        server.before = down
        started = time.monotonic()
        assert source.token(MOUNT, ROLE) is first
        assert time.monotonic() - started < 5
        until(lambda: kept(source)[0].failures)
        asked = len(server.server.seen)
        for _ in range(100):
            assert source.token(MOUNT, ROLE) is first  # at once: only workers try again
        assert len(server.server.seen) <= asked + 5
        clock.now += 101
        with pytest.raises(ServerUnavailableError, match="sealed"):
            source.token(MOUNT, ROLE)
        server.before = lambda _seen: None
        assert source.token(MOUNT, ROLE).access_token == "bearer-2-"


def test_fifteen_minutes_of_outage_with_a_warm_cache(server, clock):
    """Whenever it begins: a used token is renewed with 20 min left."""
    with source_of(server, clock) as source:
        for start in range(0, 3600, 300):
            source.token(MOUNT, ROLE)
            for _ in range(start // 60):
                clock.now += 60
                assert source.token(MOUNT, ROLE).seconds_left() > 300
                settle(source)
            server.before = lambda seen: refusal(503, "skyflow: the token service is unreachable")
            for _ in range(15):
                clock.now += 60
                assert source.token(MOUNT, ROLE).seconds_left() > 0
                settle(source)
            server.before = lambda _seen: None
            clock.now += 90  # a pause after a failure is at most 75 s
            settle(source)


def test_a_revoked_login_is_replaced_once(server, clock):
    with source_of(server, clock, AppRole("order", SECRET_ID)) as source:
        source.token(MOUNT, ROLE)
        server.valid.clear()
        source.token(MOUNT, ROLE, ctx="new")
        assert server.logins == 2


def test_a_login_that_ends_is_replaced_before(server, clock):
    with source_of(server, clock, AppRole("order", SECRET_ID)) as source:
        source.token(MOUNT, ROLE)
        clock.now += 1100
        source.token(MOUNT, ROLE, ctx="a")
        assert server.logins == 1
        clock.now += 50
        source.token(MOUNT, ROLE, ctx="b")
    assert server.logins == 2
    assert [seen.headers.get("x-vault-token") for seen in server.server.seen] == [
        None, "login-1", "login-1", None, "login-2",
    ]  # fmt: skip


def test_what_is_denied_costs_one_login_a_minute_at_most(server, clock):
    server.denied = {f"{MOUNT}/creds/{ROLE}"}
    with source_of(server, clock, AppRole("order", SECRET_ID)) as source:
        for _ in range(20):
            with pytest.raises(PermissionDeniedError, match="permission denied"):
                source.token(MOUNT, ROLE)
        assert server.logins == 2
        source.token(MOUNT, "other")
        clock.now += 61
        with pytest.raises(PermissionDeniedError):
            source.token(MOUNT, ROLE)
        assert server.logins == 3


def test_a_given_token_that_is_refused_is_an_error_at_once(server, clock):
    server.valid.clear()
    with source_of(server, clock) as source, pytest.raises(PermissionDeniedError) as caught:
        source.token(MOUNT, ROLE)
    assert caught.value.status == 403
    assert len(server.server.seen) == 1


def test_a_token_file_is_read_again_when_its_token_is_refused(server, clock, tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("given\n")
    with source_of(server, clock, TokenFile(file)) as source:
        source.token(MOUNT, ROLE)
        file.write_text("second")
        server.valid = {"second"}
        source.token(MOUNT, ROLE, ctx="a")
        file.unlink()
        source.token(MOUNT, ROLE, ctx="b")
        server.valid.clear()
        with pytest.raises(LoginRefusedError, match="token cannot be used: No such file"):
            source.token(MOUNT, ROLE, ctx="c")
        assert source.token(MOUNT, ROLE, ctx="a").access_token  # what is kept still serves


def test_a_secret_id_in_a_file_is_read_at_every_login(server, clock, tmp_path: Path):
    file = tmp_path / "secret-id"
    file.write_text("old")
    with source_of(server, clock, AppRole("order", file)) as source:
        with pytest.raises(LoginRefusedError, match="invalid role or secret ID"):
            source.token(MOUNT, ROLE)
        file.write_text(SECRET_ID)
        assert source.token(MOUNT, ROLE).access_token == "bearer-1-"


@pytest.mark.parametrize("gone", ["missing", "empty", "cut short"])
@pytest.mark.parametrize("kind", ["secret id", "jwt", "token file"])
def test_a_login_file_that_cannot_be_read_for_a_moment_drops_no_token(
    server, clock, tmp_path: Path, kind: str, gone: str
):
    file = tmp_path / "file"
    file.write_text("given" if kind == "token file" else SECRET_ID)
    login = {
        "secret id": lambda: AppRole("order", file),
        "jwt": lambda: Jwt("order", file),
        "token file": lambda: TokenFile(file),
    }[kind]()
    with source_of(server, clock, login) as source:
        first = source.token(MOUNT, ROLE)
        secret = source.secrets("secret/backend")
        before = file.read_text()
        if gone == "missing":
            file.unlink()
        else:
            file.write_bytes(b"" if gone == "empty" else b"\xff\xfe")
        server.valid.clear()  # so a newer token needs a new login
        clock.now += 3400
        for _ in range(20):
            assert source.token(MOUNT, ROLE) is first
            assert source.secrets("secret/backend") is secret
        until(lambda: all(one.failures for one in kept(source)))
        assert (source.token(MOUNT, ROLE), source.secrets("secret/backend")) == (first, secret)
        with pytest.raises(LoginRefusedError, match="cannot be used") as caught:
            source.token(MOUNT, ROLE, ctx="new")
        assert caught.value.status == 0
        file.write_text(before)
        server.valid.add("given")
        clock.now += 90
        settle(source)
        assert source.token(MOUNT, ROLE) is not first
        assert source.secrets("secret/backend") is not secret


def test_a_login_that_a_standby_does_not_know_yet_is_decided_by_the_leader(server, clock):
    """Its refusal has no index, so the cluster's id comes from its health."""

    def standby(seen):
        if seen.path.startswith("/v1/sys/health"):
            return Answer(200, {"cluster_id": "cluster-1"})
        if seen.path.startswith("/v1/auth/") and "x-vault-index" not in seen.headers:
            return refusal(400, "invalid role or secret ID")
        return None

    server.before = standby
    with source_of(server, clock, AppRole("order", SECRET_ID)) as source:
        source.token(MOUNT, ROLE)
    asked = [(seen.path.partition("?")[0], seen.headers) for seen in server.server.seen]
    assert [path for path, _ in asked] == [
        "/v1/auth/approle/login", "/v1/sys/health", "/v1/auth/approle/login",
        f"/v1/{MOUNT}/creds/{ROLE}",
    ]  # fmt: skip
    headers = asked[2][1]
    index = json.loads(base64.b64decode(headers["x-vault-index"]))
    assert (index["cluster"], int(index["value"]) > 10**15) == ("cluster-1", True)
    assert headers["x-vault-inconsistent"] == "forward-active-node"


def test_a_login_during_a_change_of_the_leader_is_repeated(server, clock):
    answers = iter([refusal(400, "failed to persist: leadership lost while committing log"), None])
    server.before = lambda seen: next(answers) if "/auth/" in seen.path else None
    with source_of(server, clock, AppRole("order", SECRET_ID)) as source:
        assert source.token(MOUNT, ROLE).access_token
    assert server.logins == 1


def test_a_login_that_the_server_refuses_drops_what_is_kept(server, clock, tmp_path: Path):
    file = tmp_path / "secret-id"
    file.write_text(SECRET_ID)
    with source_of(server, clock, AppRole("order", file)) as source:
        source.token(MOUNT, ROLE)
        file.write_text("revoked")
        server.valid.clear()
        clock.now += 3400
        with pytest.raises(LoginRefusedError, match="invalid role or secret ID") as caught:
            until(lambda: not source.token(MOUNT, ROLE))
        assert caught.value.status == 400


def test_secrets_are_kept_and_survive_an_outage(server, clock):
    with source_of(server, clock) as source:
        fields = source.secrets("secret/backend")
        assert dict(fields) == {"user": "app", "password": "pw-1"}
        assert fields.version == 1
        assert source.secrets("/secret/backend/") is fields
        assert source.secrets("team/kv/a/b", mount="team/kv")["password"] == "pw-2"
        assert [seen.path for seen in server.server.seen] == [
            "/v1/secret/data/backend", "/v1/team/kv/data/a/b",
        ]  # fmt: skip
        clock.now += 301
        server.before = down
        assert source.secrets("secret/backend") is fields
        clock.now += 3600
        with pytest.raises(ServerUnavailableError):
            source.secrets("secret/backend")
        with pytest.raises(ClientSettingsError):
            source.secrets("secret")


def test_a_changed_secret_is_seen_after_its_time(server, clock):
    with source_of(server, clock) as source:
        source.secrets("secret/backend")
        clock.now += 301
        assert source.secrets("secret/backend")["password"] == "pw-2"


def test_data_tokens_are_signed_in_order_and_in_parts(server, clock):
    wanted = [f"tok-{number}" for number in range(130)] + ["tok-0"]
    with source_of(server, clock) as source:
        signed = source.sign(MOUNT, ROLE, wanted, ctx="order:1", ttl=90)
        with pytest.raises(ClientSettingsError):
            source.sign(MOUNT, ROLE, "tok-1")
    assert [one.data_token for one in signed] == wanted
    assert signed[-1].signed_data_token == "signed_token_tok-0"
    assert len(server.server.seen) == 3


def test_a_token_without_a_ttl_is_judged_by_its_own_end_or_not_kept(server, clock):
    """As from an engine that answers only the token."""

    claims = base64.urlsafe_b64encode(json.dumps({"exp": clock.now + 1800}).encode()).decode()
    tokens = iter([f"h.{claims.rstrip('=')}.s", "opaque", "opaque"])
    server.before = lambda seen: Answer(200, {"data": {"access_token": next(tokens)}})
    with source_of(server, clock) as source:
        kept = source.token(MOUNT, ROLE, ctx="jwt")
        assert kept.seconds_left() == 1800
        assert source.token(MOUNT, ROLE, ctx="jwt") is kept
        assert source.token(MOUNT, ROLE).access_token == "opaque"
        assert source.token(MOUNT, ROLE).access_token == "opaque"
    assert len(server.server.seen) == 3


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (refusal(400, "ctx is required"), RequestRefusedError, "ctx is required"),
        (refusal(404), RequestRefusedError, "it answered 404"),
        (refusal(502, "token service refused: key expired"), RequestRefusedError, "key expired"),
        (refusal(500, "internal error"), ServerUnavailableError, "internal error"),
        (refusal(307, Location="http://127.0.0.9:1/v1/x"), ServerUnavailableError, "not named"),
    ],
)
def test_what_the_server_says_becomes_the_error(server, clock, answer, kind, text):
    server.before = lambda _seen: answer
    with source_of(server, clock, attempts=3) as source, pytest.raises(kind, match=text) as caught:
        source.token(MOUNT, ROLE)
    assert caught.value.status == answer.status
    assert len(server.server.seen) == (3 if kind is ServerUnavailableError else 1)


def test_no_secret_is_in_a_repr_an_error_or_a_traceback_with_locals(server, clock, caplog):
    hidden = (SECRET_ID, "bearer-1", "login-1", "ctx-of-a-person", "pw-", "signed_token_")

    texts: list[str] = []
    with source_of(server, clock, AppRole("order", SECRET_ID), attempts=2) as source:
        token = source.token(MOUNT, ROLE, ctx="ctx-of-a-person")
        fields = source.secrets("secret/backend")
        signed = source.sign(MOUNT, ROLE, ["tok-1"])
        entries = list(source._cache._kept.items())
        texts += map(repr, (source, token, fields, signed, entries, source._session._current))
        texts += [str(token), f"{fields}", repr([one.held for _, one in entries])]
        clock.now += 3590
        server.before = down
        source.token(MOUNT, ROLE, ctx="ctx-of-a-person")
        until(lambda: any(one.failures for _, one in entries))
        clock.now += 100
        for ask in (
            lambda: source.token(MOUNT, ROLE, ctx={"a": "ctx-of-a-person"}),
            lambda: source.sign(MOUNT, ROLE, ["signed_token_x"], ctx="ctx-of-a-person"),
            lambda: source.secrets("secret/other"),
        ):
            with pytest.raises(TokenSourceError) as caught:
                ask()
            # The callers' own frames have what they gave; ours must not.
            frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            ours = [one for one in frames.stack if "/skyflowctl/client/" in one.filename]
            assert ours
            texts.append("".join(map(str, [one.locals for one in ours if one.name not in CALLED])))
            texts.append(str(caught.value))
    texts.append(caplog.text)
    assert "not renewed yet" in caplog.text
    for text in texts:
        for one in hidden:
            assert one not in text, text


# They have the caller's own arguments.
CALLED = {"token", "sign", "secrets", "_token", "_signed"}


def test_a_fork_begins_anew_with_the_tokens_that_are_kept(server, clock):
    with source_of(server, clock, AppRole("order", SECRET_ID)) as source:
        first = source.token(MOUNT, ROLE)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                told = f"{source.token(MOUNT, ROLE).access_token} {source.token(MOUNT, ROLE, 'x').access_token}"
                os.write(writer, told.encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as told:
            assert told.read() == f"{first.access_token} bearer-2-x"
        os.waitpid(child, 0)
        assert source.token(MOUNT, ROLE) is first
    assert server.logins == 2


def test_a_closed_source_raises_and_sends_nothing(server, clock):
    with source_of(server, clock) as source:
        source.token(MOUNT, ROLE)
    for call in (
        lambda: source.token(MOUNT, ROLE),
        lambda: source.secrets("secret/backend"),
        lambda: source.sign(MOUNT, ROLE, ["tok-1"]),
    ):
        with pytest.raises(TokenSourceError, match="the token source is closed"):
            call()
    assert (len(server.reads), kept(source)) == (1, [])


@pytest.mark.parametrize("token", ["", " ", "\n"])
def test_an_empty_token_is_refused(token):
    with pytest.raises(ClientSettingsError, match="empty"):
        FixedToken(token)


@pytest.mark.parametrize(
    ("status", "error"), [(403, PermissionDeniedError), (404, RequestRefusedError)]
)
def test_what_the_server_takes_back_is_not_handed_out_any_more(server, clock, status, error):
    """A denial is no outage: neither a worker's nor a caller's leaves the value in use."""
    with source_of(server, clock) as source:
        source.token(MOUNT, ROLE)
        source.secrets("secret/backend")
        server.before = lambda _seen: refusal(status, "gone")
        clock.now += 3400
        for call in (
            lambda: source.token(MOUNT, ROLE),
            lambda: source.secrets("secret/backend"),
        ):
            for _ in range(2):
                with pytest.raises(error, match="gone"):
                    call()
        assert all(one.held is None for one in kept(source))
        server.before = down
        with pytest.raises(ServerUnavailableError):
            source.secrets("secret/backend")


@pytest.mark.parametrize(
    "data",
    [
        {"data": {}, "metadata": {"version": "x"}},
        {"data": {}, "metadata": []},
        {"data": [], "metadata": {}},
        {"access_token": ["a"]},
        {"signed_data_tokens": "soon"},
        {"signed_data_tokens": ["soon"]},
        {"signed_data_tokens": [{"data_token": "tok-1"}]},
        {"signed_data_tokens": [{"data_token": "tok-1", "signed_data_token": 7}]},
        {},
        [],
    ],
)
def test_a_malformed_answer_is_an_error_of_the_source(server, clock, data):
    server.before = lambda _seen: Answer(200, {"data": data})
    with source_of(server, clock) as source:
        for call in (
            lambda: source.token(MOUNT, ROLE),
            lambda: source.secrets("secret/backend"),
            lambda: source.sign(MOUNT, ROLE, ["tok-1"]),
        ):
            with pytest.raises(RequestRefusedError):
                call()


@pytest.mark.parametrize(
    "auth",
    [
        {"client_token": "t", "lease_duration": "soon"},
        {"client_token": "t", "lease_duration": [1]},
        {"client_token": ["t"], "lease_duration": 60},
        ["t"],
        {},
    ],
)
def test_a_malformed_answer_to_a_login_is_a_refused_login(server, clock, auth):
    server.before = lambda _seen: Answer(200, {"auth": auth})
    with (
        source_of(server, clock, AppRole("order", SECRET_ID)) as source,
        pytest.raises(LoginRefusedError),
    ):
        source.token(MOUNT, ROLE)
