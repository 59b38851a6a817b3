"""A token is read again before it ends, and a failure is told and tried again."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from support.emulator import FixedClock

from skyflowctl.clock import rfc3339
from skyflowctl.errors import UnreachableError
from skyflowctl.operations.keep_token import TokenKeeper
from skyflowctl.secret import Secret
from skyflowctl.vault.responses import Creds

HOUR = 3600


class Waits:
    """Takes the place of the event: waiting moves the clock, and after ``most`` it is stopped."""

    def __init__(self, clock: FixedClock, most: float) -> None:
        self.clock, self.ends = clock, clock.time + timedelta(seconds=most)

    def wait(self, seconds: float) -> bool:
        self.clock.time += timedelta(seconds=seconds)
        return self.is_set()

    def is_set(self) -> bool:
        return self.clock.time >= self.ends


class Server:
    """Gives tokens of an hour, except while it is down."""

    def __init__(self) -> None:
        self.clock = FixedClock()
        self.start = self.clock.time
        self.down = (0.0, 0.0)
        self.asked: list[float] = []
        self.told: list[str] = []
        self.new: list[Creds] = []

    def passed(self) -> float:
        return (self.clock.time - self.start).total_seconds()

    def read(self) -> Creds:
        self.asked.append(self.passed())
        if self.down[0] <= self.passed() < self.down[1]:
            raise UnreachableError("the server is unreachable", why="refused", fix="start it")
        ends = rfc3339(self.clock.time + timedelta(seconds=HOUR))
        return Creds(Secret(f"token-{len(self.asked)}"), "Bearer", ends, HOUR, "k", 1, "r")

    def keep(self, seconds: float) -> TokenKeeper:
        keeper = TokenKeeper(self.read, self.clock, on_new=self.new.append, tell=self.told.append)
        keeper._stopped = Waits(self.clock, seconds)
        keeper.run()
        return keeper


def test_a_new_token_is_read_while_a_third_of_the_old_ones_time_is_left():
    server = Server()
    keeper = server.keep(10 * HOUR)
    gaps = [later - first for first, later in pairwise(server.asked)]
    assert len(gaps) >= 13
    assert all(0.5 * HOUR <= gap <= 0.7 * HOUR + 1 for gap in gaps)
    assert len({round(gap) for gap in gaps}) > 3, "no spread"
    assert keeper.token is server.new[-1]
    assert server.told == []


def test_an_outage_is_told_with_the_old_tokens_end_and_then_over():
    server = Server()
    server.down = (0.4 * HOUR, 0.8 * HOUR)
    keeper = server.keep(0.9 * HOUR)
    failed = [at for at in server.asked if 0.4 * HOUR <= at < 0.8 * HOUR]
    assert len(failed) > 5
    assert max(b - a for a, b in pairwise(failed)) <= 61
    assert len(server.told) == len(failed)
    assert "the server is unreachable (refused); it is valid until 20" in server.told[0]
    assert len(server.new) == 1
    assert keeper.seconds_left() > 0.8 * HOUR


def test_an_outage_longer_than_the_token_says_that_it_has_expired():
    server = Server()
    server.down = (0.4 * HOUR, 5 * HOUR)
    keeper = server.keep(2 * HOUR)
    assert "has expired at" in server.told[-1]
    assert keeper.token.access_token.reveal() == "token-1"
    assert keeper.seconds_left() < 0


def test_a_token_that_cannot_be_handed_over_is_none():
    server = Server()

    def full(_token: Creds) -> None:
        raise UnreachableError("the disk is full", why="no space", fix="make some")

    keeper = TokenKeeper(server.read, server.clock, on_new=full, tell=server.told.append)
    keeper._stopped = Waits(server.clock, 0.75 * HOUR)
    keeper.run()
    assert keeper.token.access_token.reveal() == "token-1"
    assert "the disk is full" in server.told[0]


def test_the_same_token_again_is_no_new_one():
    server = Server()
    first = server.read()
    keeper = TokenKeeper(lambda: first, server.clock, on_new=server.new.append)
    keeper._stopped = Waits(server.clock, 0.9 * HOUR)
    keeper.run()
    assert server.new == []


def test_the_first_failure_is_raised():
    server = Server()
    server.down = (0.0, 1.0)
    with pytest.raises(UnreachableError):
        TokenKeeper(server.read, server.clock)
