"""``doctor`` says of the vendor's SDK only what it saw."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from skyflowctl.doctor.model import Grade
from skyflowctl.operations.doctor.credentials import CredentialChecks
from skyflowctl.secret import Secret
from skyflowctl.skyflow.minting import MintedToken
from skyflowctl.skyflow.token_service import TokenServiceUnreachableError

REFUSED = TokenServiceUnreachableError("no answer")

MINTED = MintedToken(Secret("token"), "Bearer", None, "key", "", 5.0)


@pytest.mark.parametrize("ours", [MINTED, TokenServiceUnreachableError("no answer")])
def test_the_sdk_is_not_claimed_to_get_a_token_without_a_role(ours, monkeypatch):
    monkeypatch.setattr(CredentialChecks, "_ours", lambda *_: ours)
    doctor = CredentialChecks(None, None, frozenset())
    mount = SimpleNamespace(name="order", roles=())
    account = SimpleNamespace(token_uri="https://manage.skyflowapis.com/v1/auth/sa/oauth/token")
    found = doctor._compared(mount, account, always=True)
    assert found.grade is (Grade.OK if ours is MINTED else Grade.BAD)
    assert "was not asked" in found.detail
    assert "SDK gets" not in found.detail


ROLE = SimpleNamespace(name="reader", role_id="r", ctx=None)


@pytest.mark.parametrize(
    ("ours", "theirs", "grade", "said"),
    [
        (MINTED, "", Grade.OK, "the vendor's SDK gets one"),
        (MINTED, "401 no", Grade.WARNING, "the vendor's SDK gets none: 401 no"),
        (MINTED, "it is not installed", Grade.OK, "was not asked: it is not installed"),
        (REFUSED, "401 no", Grade.BAD, "no answer; the vendor's SDK gets none: 401 no"),
        (REFUSED, "", Grade.BAD, "no answer; the vendor's SDK gets one"),
    ],
)
def test_our_minter_and_the_sdk_are_compared(ours, theirs, grade, said, monkeypatch):
    monkeypatch.setattr(CredentialChecks, "_ours", lambda *_: ours)
    monkeypatch.setattr(CredentialChecks, "_theirs", lambda *_: theirs)
    doctor = CredentialChecks(None, None, frozenset())
    mount = SimpleNamespace(name="order", roles=(ROLE,))
    account = SimpleNamespace(token_uri="https://manage.skyflowapis.com/v1/auth/sa/oauth/token")
    found = doctor._compared(mount, account, always=True)
    assert found.grade is grade
    assert said in found.detail
    assert found.fix == ("" if grade is Grade.OK else "skyflowctl creds order reader --direct")
