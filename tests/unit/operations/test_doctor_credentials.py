"""``doctor`` says of the vendor's SDK only what it saw."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from skyflowctl.doctor.model import Grade
from skyflowctl.operations.doctor.credentials import DoctorCredentials
from skyflowctl.secret import Secret
from skyflowctl.skyflow.minting import MintedToken
from skyflowctl.skyflow.token_service import TokenServiceUnreachableError

MINTED = MintedToken(Secret("token"), "Bearer", None, "key", "", 5.0)


@pytest.mark.parametrize("ours", [MINTED, TokenServiceUnreachableError("no answer")])
def test_the_sdk_is_not_claimed_to_get_a_token_without_a_role(ours, monkeypatch):
    monkeypatch.setattr(DoctorCredentials, "_ours", lambda *_: ours)
    doctor = DoctorCredentials(None, {}, None, frozenset())
    mount = SimpleNamespace(name="order", roles=())
    account = SimpleNamespace(token_uri="https://manage.skyflowapis.com/v1/auth/sa/oauth/token")
    found = doctor._compared(mount, account, always=True)
    assert found.grade is (Grade.OK if ours is MINTED else Grade.BAD)
    assert "was not asked" in found.detail
    assert "SDK gets" not in found.detail
