"""The operations validate, schema and init; credentials are made here, each bad in its way."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from support.keys import TOKEN_URI, credential, credential_text, pkcs1, pkcs8, rsa_key, stamp

from skyflowctl.errors import ExitCode, InvalidInputError, RefusedError, UsageError
from skyflowctl.manifest.load import load_manifest
from skyflowctl.operations.init import init
from skyflowctl.operations.validate import validate

HEAD = "version: 1\nmanifest: shop\nmounts:\n"
NOW = datetime.now(UTC)


class Clock:
    def now(self):
        return NOW

    def monotonic(self):
        return 0.0


@pytest.fixture
def check(tmp_path):
    def check(text: str, *, environ=None, resolve=True, **files: str):
        for name, content in files.items():
            path = tmp_path / f"{name}.json"
            path.write_text(content)
            path.chmod(0o600)
        manifest = tmp_path / "mounts.yaml"
        manifest.write_text(HEAD + text)
        return validate([str(manifest)], environ=environ or {}, clock=Clock(), resolve=resolve)

    return check


def mount(name: str) -> str:
    return f"  {name}:\n    credentials:\n      file: {name}.json\n"


def _elliptic_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
    ).decode()


def _encrypted_key() -> str:
    encryption = form.BestAvailableEncryption(b"password")
    return rsa_key().private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption).decode()


def changed(**changes) -> str:
    return json.dumps(credential(now=NOW, **changes))


BAD = {
    "no-json": (lambda: "not json", "JSON"),
    "cut-off": (lambda: changed()[:-40], "JSON"),
    "array": (lambda: f"[{changed()}]", "object"),
    "quoted-twice": (lambda: json.dumps(changed()), "twice"),
    "html-page": (lambda: "<html><body>Sign in</body></html>", "JSON"),
    "no-client-id": (lambda: changed(clientID=None), "clientID is missing"),
    "no-key-id": (lambda: changed(keyID=None), "keyID is missing"),
    "no-token-uri": (lambda: changed(tokenURI=None), "tokenURI is missing"),
    "no-private-key": (lambda: changed(privateKey=None), "privateKey is missing"),
    "number-as-id": (lambda: changed(clientID=7), "clientID is not a string"),
    "empty-id": (lambda: changed(keyID=" "), "keyID is empty"),
    "placeholder": (lambda: changed(clientID="<YOUR_CLIENT_ID>"), "placeholder"),
    "two-spellings": (lambda: changed(client_id="a" * 32), "twice"),
    "api-key-file": (
        lambda: changed(privateKey=None, apiKeyID="1", apiKey="sky-ab12c-" + "0" * 32),
        "API",
    ),
    "http": (lambda: changed(tokenURI=TOKEN_URI.replace("https", "http")), "tokenURI"),
    "other-host": (lambda: changed(tokenURI=TOKEN_URI.replace("manage.", "evil.")), "tokenURI"),
    "other-port": (lambda: changed(tokenURI=TOKEN_URI.replace(".com/", ".com:8443/")), "tokenURI"),
    "other-path": (lambda: changed(tokenURI=TOKEN_URI + "/x"), "tokenURI"),
    "user-in-uri": (lambda: changed(tokenURI=TOKEN_URI.replace("//", "//a:b@")), "tokenURI"),
    "key-is-no-pem": (lambda: changed(privateKey="c29tZXRoaW5n"), "privateKey"),
    "key-is-cut-off": (lambda: changed(privateKey=pkcs8(rsa_key())[:400]), "privateKey"),
    "key-is-short": (lambda: changed(privateKey=pkcs8(rsa_key("short", 1024))), "2048 bits"),
    "key-is-elliptic": (lambda: changed(privateKey=_elliptic_key()), "not an RSA key"),
    "key-is-encrypted": (lambda: changed(privateKey=_encrypted_key()), "password"),
    "key-is-public": (
        lambda: changed(
            privateKey=rsa_key()
            .public_key()
            .public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        ),
        "privateKey",
    ),
    "expired": (
        lambda: changed(
            keyValidAfterTime=stamp(NOW - timedelta(days=400)),
            keyValidBeforeTime=stamp(NOW - timedelta(days=1)),
        ),
        "expired",
    ),
    "ends-before-it-starts": (
        lambda: changed(
            keyValidAfterTime=stamp(NOW + timedelta(days=9)),
            keyValidBeforeTime=stamp(NOW + timedelta(days=5)),
        ),
        "keyValid",
    ),
    "date-form": (lambda: changed(keyValidBeforeTime="next year"), "keyValidBeforeTime"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_credential_is_said_at_its_reference(check, name):
    make, fragment = BAD[name]
    text = make()
    found = check(mount("order"), order=text)
    assert not found.valid
    for problem in found.problems:
        assert (problem.where.line, problem.where.column) == (6, 13)
        assert problem.where.pointer == "/mounts/order/credentials/file"
        assert problem.summary.startswith("the credential of order: ")
        assert problem.fix
    assert any(fragment in problem.summary for problem in found.problems), found.problems
    assert InvalidInputError.of(found.problems).exit_code is ExitCode.INVALID


@pytest.mark.parametrize("name", BAD)
def test_no_message_holds_a_part_of_the_credential(check, name):
    text = BAD[name][0]()
    found = check(mount("order"), order=text)
    body = "".join(text.replace("\\n", "").split())
    windows = {body[start : start + 24] for start in range(max(0, len(body) - 23))}
    told = "".join(repr(found.problems).split())
    assert not any(window in told for window in windows if "skyflowapis" not in window)


def test_a_good_credential(check):
    found = check(mount("order"), order=credential_text(now=NOW))
    assert (found.problems, found.warnings) == ((), ())
    assert found.counts() == {"mounts": 1, "roles": 0, "references": 1, "resolved": 1}


def test_a_credential_with_oddities_is_valid_with_warnings(check):
    text = changed(privateKey=pkcs1(rsa_key()), keyValidBeforeTime=stamp(NOW + timedelta(days=3)))
    found = check(mount("order"), order=text)
    assert found.valid
    assert len(found.warnings) == 2
    assert all(warning.where.line == 6 for warning in found.warnings)


def test_a_missing_file_is_an_error_at_the_reference(check):
    (problem,) = check(mount("order")).problems
    assert (problem.code, problem.where.line, problem.where.column) == ("reference-missing", 6, 13)


def test_an_unset_variable_is_a_warning(check):
    found = check("  order: {credentials: {env: ORDER_CREDENTIAL}}\n")
    (warning,) = found.warnings
    assert (warning.code, warning.where.line, warning.where.column) == ("reference-unset", 4, 30)
    assert found.valid
    assert found.resolved == 0


def test_a_variable_with_a_credential_is_checked(check):
    text = "  order: {credentials: {env: ORDER_CREDENTIAL}}\n"
    good = check(text, environ={"ORDER_CREDENTIAL": credential_text(now=NOW)})
    assert (good.valid, good.resolved) == (True, 1)
    bad = check(text, environ={"ORDER_CREDENTIAL": "{}"})
    assert {problem.where.line for problem in bad.problems} == {4}


def test_a_keyring_entry_is_not_looked_up(check):
    found = check("  order: {credentials: {keyring: {service: s, username: u}}}\n")
    assert (found.valid, found.resolved, found.counts()["references"]) == (True, 0, 1)


def test_an_operator_token_must_be_there_too(check):
    text = "  order: {rotation: {source: generate, account_id: a, operator_token: {file: none}}}\n"
    (problem,) = check(text).problems
    assert problem.where.pointer == "/mounts/order/rotation/operator_token/file"


def test_against_the_dev_stack_no_reference_is_followed(check):
    found = check(mount("order"), resolve=False, order="not json")
    assert (found.valid, found.resolved, found.warnings) == (True, 0, ())


@pytest.mark.parametrize("same", ["key", "key-id"])
def test_two_mounts_with_the_same_key(check, same):
    first = credential(now=NOW)
    change = {"privateKey": first["privateKey"]} if same == "key" else {"keyID": first["keyID"]}
    second = {**credential(now=NOW, key="second"), **change}
    text = mount("order") + mount("payment")
    found = check(text, order=json.dumps(first), payment=json.dumps(second))
    (warning,) = found.warnings
    assert (warning.code, warning.where.line) == ("shared-credential", 9)
    assert "order and payment" in warning.summary
    assert found.valid


def test_a_file_that_others_can_read(check, tmp_path):
    check(mount("order"), order=credential_text(now=NOW))
    (tmp_path / "order.json").chmod(0o644)
    (warning,) = check(mount("order")).warnings
    assert (warning.code, warning.where.line) == ("file-mode", 6)
    assert "0644" in warning.summary


@pytest.mark.needs("git")
def test_a_file_that_git_would_take(check, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    found = check(mount("order"), order=credential_text(now=NOW))
    (warning,) = found.warnings
    assert (warning.code, warning.where.line) == ("file-in-git", 6)
    (tmp_path / ".gitignore").write_text("*.json\n")
    assert check(mount("order")).warnings == ()


def test_warnings_are_in_the_order_of_the_file(check):
    text = (
        mount("order")
        + "  payment: {audit: {plain_ctx: true}, credentials: {env: NONE}}\n"
        + mount("purchase")
    )
    good = credential_text(now=NOW)
    found = check(text, order=good, purchase=good)
    assert [warning.where.line for warning in found.warnings] == [7, 7, 10]


def test_a_bad_manifest_is_returned_with_its_problems(check):
    found = check("  order: {tag: 1}\n")
    assert (found.manifest, [problem.code for problem in found.problems]) == (None, ["unknown-key"])
    assert found.counts() == {"mounts": 0, "roles": 0, "references": 0, "resolved": 0}


def test_init_writes_a_valid_manifest(tmp_path):
    started = init(str(tmp_path / "mounts.yaml"))
    loaded = load_manifest([str(started.manifest)], environ={})
    assert loaded.manifest.id == "my-platform"
    assert loaded.manifest.plugin.version.startswith("v")
    assert started.done() == (f"wrote {tmp_path / 'mounts.yaml'}",)
    assert [path.name for path in tmp_path.iterdir()] == ["mounts.yaml"]


def test_init_never_overwrites_unless_forced(tmp_path):
    path = tmp_path / "mounts.yaml"
    path.write_text("mine\n")
    with pytest.raises(RefusedError):
        init(str(path))
    assert path.read_text() == "mine\n"
    assert init(str(path), force=True).done() == (f"replaced {path}",)
    assert path.read_text() != "mine\n"
    assert [one.name for one in tmp_path.iterdir()] == ["mounts.yaml"]


def test_init_does_not_follow_a_link_that_leads_nowhere(tmp_path):
    path = tmp_path / "mounts.yaml"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError):
        init(str(path))
    assert not (tmp_path / "elsewhere").exists()


def test_init_says_why_it_cannot_write(tmp_path):
    with pytest.raises(UsageError) as caught:
        init(str(tmp_path / "none" / "mounts.yaml"))
    assert caught.value.problems[0].code == "not-writable"


@pytest.mark.parametrize("name", ["-", "", "shop/", ".", "a\nb", "a\0b", "\x1b[31m"])
@pytest.mark.parametrize("force", [False, True])
def test_init_takes_no_odd_name(tmp_path, monkeypatch, name, force):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        init(name, force=force)
    problem = caught.value.problems[0]
    assert problem.code == "bad-file-name"
    assert all((problem.why, problem.fix))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [None, "", "*.log", "*.log\n"])
def test_init_keeps_credentials_out_of_git(tmp_path, before):
    (tmp_path / ".git").mkdir()
    folder = tmp_path / "deploy"
    folder.mkdir()
    ignore = folder / ".gitignore"
    if before is not None:
        ignore.write_text(before)
    started = init(str(folder / "mounts.yaml"))
    assert started.ignore_file == ignore
    assert f"added credentials/ to {ignore}" in started.done()
    kept = [before.strip()] if before else []
    assert ignore.read_text().splitlines() == [*kept, "credentials/"]
    assert init(str(folder / "mounts.yaml"), force=True).ignore_file is None
    assert ignore.read_text().count("credentials/") == 1


def test_the_starter_keeps_its_schema_line():
    text = Path(__file__).parents[3].joinpath("src/skyflowctl/operations/init.py").read_text()
    assert "# yaml-language-server: $schema=" in text


def test_the_other_objects_are_counted_and_an_unknown_policy_is_a_warning(tmp_path):
    path = tmp_path / "mounts.yaml"
    path.write_text(
        "version: 1\nmanifest: m\nmounts: {}\n"
        "engines: {secret: {type: kv, version: 2, secrets: {a: {b: {value: c}}}}}\n"
        "policies: {backend: {rules: {secret/data/a: [read]}}}\n"
        "auth:\n  approle:\n    roles:\n"
        "      good: {policies: [backend, default]}\n"
        "      bad: {policies: [bakend]}\n"
    )
    found = validate([str(path)], environ={}, clock=Clock())
    assert found.others() == {
        "engine": 1,
        "secret": 1,
        "policy": 1,
        "login_method": 1,
        "login_role": 2,
    }
    (warning,) = found.warnings
    assert (warning.code, warning.fix) == ("unknown-policy", 'did you mean "backend"?')
    assert warning.where.line == 10
