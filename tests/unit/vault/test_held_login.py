"""A login while a command runs: for its cluster alone, renewed in time, made again if that helps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from skyflowctl.errors import ExitCode
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import ForbiddenError
from skyflowctl.vault.held_login import ClusterChangedError, HeldLogin, HeldToken

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeTime:
    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed


class Rig:
    """A token of 300 s; what the server gives at a renewal and at a new login."""

    def __init__(self, *, renewable: bool = True, repeats: bool = False) -> None:
        self.clock = FakeTime()
        self.grants: list[int | None] = []
        self.renewed = self.repeated = 0
        self.login = HeldLogin(
            "c1",
            HeldToken(Secret("first"), 300, START + timedelta(seconds=300), renewable),
            renew=self.renew,
            repeat=self.repeat if repeats else None,
            clock=self.clock,
        )

    def renew(self, token: Secret) -> HeldToken:
        self.renewed += 1
        granted = self.grants.pop(0) if self.grants else 300
        if granted is None:
            raise ForbiddenError("no")
        ends = self.clock.now() + timedelta(seconds=granted)
        return HeldToken(token, granted, ends, renewable=True)

    def repeat(self) -> HeldToken:
        self.repeated += 1
        ends = self.clock.now() + timedelta(seconds=300)
        return HeldToken(Secret(f"again {self.repeated}"), 300, ends, renewable=True)

    def at(self, seconds: float) -> str:
        self.clock.passed = seconds
        return self.login.token().reveal()


def test_it_is_renewed_when_a_third_is_left_and_not_before():
    rig = Rig()
    assert [rig.at(0), rig.at(199), rig.renewed] == ["first", "first", 0]
    assert [rig.at(201), rig.renewed] == ["first", 1]
    assert [rig.at(390), rig.renewed] == ["first", 1]
    assert [rig.at(402), rig.renewed] == ["first", 2]


def test_at_its_longest_life_it_is_made_again_without_a_person():
    rig = Rig(repeats=True)
    rig.grants = [60]
    assert [rig.at(201), rig.repeated] == ["again 1", 1]
    assert rig.login.is_own


def test_at_its_longest_life_it_is_used_to_its_end_if_it_takes_a_person():
    rig = Rig()
    rig.grants = [60, 50]
    assert [rig.at(201), rig.at(203), rig.renewed] == ["first", "first", 1]
    assert not rig.login.is_own


@pytest.mark.parametrize("repeats", [True, False])
def test_a_renewal_that_is_refused(repeats):
    rig = Rig(repeats=repeats)
    rig.grants = [None]
    assert rig.at(201) == ("again 1" if repeats else "first")


def test_a_failed_renewal_is_tried_again_after_a_pause():
    rig = Rig()
    rig.grants = [None, 300]
    rig.at(201)
    rig.at(205)
    assert rig.renewed == 1
    rig.at(212)
    assert rig.renewed == 2


def test_a_token_that_has_expired_is_made_again_and_not_renewed():
    rig = Rig(repeats=True)
    assert [rig.at(301), rig.renewed] == ["again 1", 0]


def test_a_token_without_an_end_is_never_renewed():
    rig = Rig()
    rig.login = HeldLogin(
        "c1", HeldToken(Secret("root"), 0, None, renewable=False), renew=rig.renew, repeat=None,
        clock=rig.clock,
    )  # fmt: skip
    assert [rig.at(1e9), rig.renewed] == ["root", 0]


def test_an_address_is_asked_for_its_cluster_once_a_minute():
    rig, asked = Rig(), []

    def ask() -> str:
        asked.append(rig.clock.passed)
        return "c1"

    for rig.clock.passed in (0, 59, 61, 70):
        assert rig.login.belongs_to("https://a", ask)
    assert asked == [0, 61]
    assert rig.login.belongs_to("https://b", ask)
    assert len(asked) == 3


def test_another_cluster_is_refused_and_a_silent_one_gets_no_token():
    rig = Rig()
    assert not rig.login.belongs_to("https://a", lambda: "")
    with pytest.raises(ClusterChangedError) as caught:
        rig.login.belongs_to("https://a", lambda: "c2")
    assert caught.value.exit_code is ExitCode.REFUSED
    assert "c1" in caught.value.problems[0].why
