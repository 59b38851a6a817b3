"""Stored logins: the token in the keyring alone, the rest in a file that only its owner writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.errors import InvalidInputError, RefusedError
from skyflowctl.secret import Secret
from skyflowctl.vault.contexts import ContextEntry
from skyflowctl.vault.login_store import LOGIN_SERVICE, LoginRecord, LoginStore

RECORD = LoginRecord(
    "prod", "https://a:8200", "", "c1", "acc-1", "ann", ("default",), "oidc", True, True, 1200,
    "2026-01-01T00:00:00Z",
)  # fmt: skip
CONTEXT = ContextEntry("prod", "https://a:8200")


class Ring:
    """A keyring in memory; ``works`` False: it is locked."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Secret] = {}
        self.works = True

    def is_safe(self) -> bool:
        return self.works

    def _check(self) -> None:
        if not self.works:
            raise UnresolvedReferenceError("the keyring is locked", why="w", fix="f", code="c")

    def stored(self, service: str, username: str) -> Secret | None:
        self._check()
        return self.kept.get((service, username))

    def store(self, service: str, username: str, secret: Secret) -> None:
        self._check()
        self.kept[service, username] = secret

    def forget(self, service: str, username: str) -> None:
        self._check()
        self.kept.pop((service, username), None)


@pytest.fixture
def ring() -> Ring:
    return Ring()


@pytest.fixture
def store(tmp_path: Path, ring: Ring) -> LoginStore:
    return LoginStore(tmp_path / "state" / "logins.json", ring)


def test_what_is_saved_is_found_until_it_is_forgotten(store, ring, tmp_path):
    assert store.find(CONTEXT) is None
    assert store.save(RECORD, Secret("tok")) == []
    assert store.find(CONTEXT) == RECORD
    assert store.token(RECORD) == Secret("tok")
    assert list(ring.kept) == [(LOGIN_SERVICE, "prod https://a:8200 c1")]
    file = tmp_path / "state" / "logins.json"
    assert "tok" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    store.forget(RECORD)
    assert (store.find(CONTEXT), ring.kept) == (None, {})


def test_a_login_of_another_address_or_namespace_is_not_the_contexts(store):
    store.save(RECORD, Secret("tok"))
    assert store.find(replace(CONTEXT, address="https://b:8200")) is None
    assert store.find(replace(CONTEXT, namespace="team")) is None
    assert store.find(replace(CONTEXT, name="other")) is None


def test_another_cluster_has_another_token(store):
    store.save(RECORD, Secret("tok"))
    assert store.token(replace(RECORD, cluster="c2")) is None


def test_a_new_login_replaces_the_contexts_and_leaves_the_others(store):
    other = replace(RECORD, context="eu")
    store.save(RECORD, Secret("one"))
    store.save(other, Secret("two"))
    newer = replace(RECORD, accessor="acc-2")
    assert store.save(newer, Secret("three")) == [RECORD]
    assert sorted(one.accessor for one in store.records()) == ["acc-1", "acc-2"]
    assert store.token(other) == Secret("two")


def test_a_keyring_that_fails_leaves_no_record_and_names_the_alternatives(store, ring):
    ring.works = False
    with pytest.raises(RefusedError):
        store.check_keyring()
    with pytest.raises(RefusedError) as caught:
        store.save(RECORD, Secret("tok"))
    assert "the keyring is locked" in caught.value.problems[0].why
    assert "--token-file" in caught.value.problems[0].fix
    assert store.records() == []


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": "x", "logins": []}', '{"format": "skyflowctl-logins/1"}',
             '{"format": "skyflowctl-logins/1", "logins": [{"context": 1}]}', "\xff"],
)  # fmt: skip
def test_a_damaged_file_is_65_and_not_overwritten(store, tmp_path, text):
    file = tmp_path / "state" / "logins.json"
    file.parent.mkdir()
    file.write_bytes(text.encode("latin-1"))
    file.chmod(0o600)
    for use in (store.records, lambda: store.save(RECORD, Secret("tok"))):
        with pytest.raises(InvalidInputError):
            use()
    assert file.read_bytes() == text.encode("latin-1")


def test_a_file_that_others_may_read_or_that_is_a_link_is_refused(store, tmp_path):
    store.save(RECORD, Secret("tok"))
    file = tmp_path / "state" / "logins.json"
    file.chmod(0o640)
    with pytest.raises(RefusedError):
        store.find(CONTEXT)
    real = file.rename(tmp_path / "elsewhere.json")
    real.chmod(0o600)
    file.symlink_to(real)
    with pytest.raises(RefusedError):
        store.find(CONTEXT)
    assert json.loads(real.read_text())["logins"]
