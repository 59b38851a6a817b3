"""``config write`` from the command line on, against the real engine in memory."""

from __future__ import annotations

import pytest
from support.cli import checked_data, checked_envelope, invoke
from support.gateways import identity, memory_rig
from support.reached import reach_gateway

from skyflowctl.credentials.references import parse_reference
from skyflowctl.errors import UsageError


@pytest.fixture(scope="module")
def rig():
    made = memory_rig()
    yield made
    made.gateway.close()


@pytest.fixture(autouse=True)
def reached(rig, monkeypatch, tmp_path):
    reach_gateway(rig.gateway, monkeypatch)
    monkeypatch.chdir(tmp_path)


def code_of(done) -> tuple[int, str]:
    return done.exit_code, checked_envelope(done.stdout)["errors"][0]["code"]


def test_what_is_not_named_stays(rig):
    path = rig.configured("reader")
    rig.gateway.engine(path).write_config({"tags": ["a:b"]})
    data = checked_data(
        invoke("config", "write", path, "--description", "one", "-o", "json").stdout
    )
    assert data["changed"] == ["description"]
    live = rig.gateway.engine(path).config()
    assert (live.description, live.tags) == ("one", ("a:b",))
    assert invoke("config", "write", path, "--clear-tags").exit_code == 0
    assert invoke("config", "write", path, "--tag", "x:y", "--tag", "z").exit_code == 0
    live = rig.gateway.engine(path).config()
    assert (live.description, set(live.tags)) == ("one", {"x:y", "z"})


def test_what_is_so_already_is_not_written(rig):
    path = rig.configured("reader")
    invoke("config", "write", path, "--description", "one")
    version = rig.gateway.engine(path).config().version
    done = invoke("config", "write", path, "--description", "one")
    assert (done.exit_code, done.stdout.startswith("No changes.")) == (0, True)
    assert rig.gateway.engine(path).config().version == version


def test_a_first_credential_is_written_and_a_live_one_is_not_replaced(rig, tmp_path):
    path = rig.mount()
    credential = rig.new_credential()
    (tmp_path / "key.json").write_text(credential.reveal())
    words = ("config", "write", path, "--credentials", "key.json", "-o", "json")
    assert checked_data(invoke(*words).stdout)["changed"] == ["credential"]
    assert rig.gateway.engine(path).config().key_id == identity(credential)[1]
    done = invoke(*words)
    assert code_of(done) == (5, "credential-is-live")
    assert "rotate" in checked_envelope(done.stdout)["errors"][0]["fix"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), (64, "nothing-to-write")),
        (("--tag", "a", "--clear-tags"), (64, "contradiction")),
        (("--description", "x"), (64, "not-configured")),
        (("--credentials", "file:none.json"), (65, "reference-missing")),
        (("--credentials", "nonsense"), (64, "bad-reference")),
    ],
)
def test_what_cannot_be_written(rig, words, expected):
    assert code_of(invoke("config", "write", rig.mount(), *words, "-o", "json")) == expected


def test_where_there_is_no_engine():
    done = invoke("config", "write", "contract/nowhere", "--clear-tags", "-o", "json")
    assert code_of(done) == (64, "not-mounted")


@pytest.mark.parametrize(
    ("text", "scheme", "target"),
    [
        ("env:KEY", "env", ("KEY",)),
        ("keyring:my/service/me", "keyring", ("my/service", "me")),
        ("/a/key.json", "file", ("/a/key.json",)),
        ("file:/a/b", "file", ("/a/b",)),
    ],
)
def test_references_of_a_command_line(text, scheme, target):
    reference = parse_reference(text, "--credentials")
    assert (reference.scheme, reference.target) == (scheme, target)


def test_a_relative_path_is_one_from_here(tmp_path):
    for text in ("file:key.json", "key.json", "./key.json"):
        assert parse_reference(text, "--credentials").target == (str(tmp_path / "key.json"),)


@pytest.mark.parametrize(
    "text", ['{"privateKey": "a/b"}', "eyJhbGciOi.abc.def", "vault:x", "env:A B"]
)
def test_what_may_be_a_secret_is_never_repeated(text):
    with pytest.raises(UsageError) as refused:
        parse_reference(text, "--operator-token")
    problem = refused.value.problems[0]
    assert problem.summary == "--operator-token is no reference"
    assert text not in problem.why + problem.fix
