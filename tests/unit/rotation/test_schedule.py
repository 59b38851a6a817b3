"""When a credential is due: by the key's own age, or because it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support.gateways import memory_rig

from skyflowctl.manifest.model import RotationRule
from skyflowctl.rotation.schedule import due_reason
from skyflowctl.vault.live import LiveConfig

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
RULE = RotationRule(max_age=timedelta(days=90), renew_before=timedelta(days=14))


def config(configured=True, **days):
    """A config whose times are so many days from now."""
    times = {name: NOW + timedelta(days=count) for name, count in days.items()}
    return LiveConfig(configured, "c", "k", "", (), 1, 1, **times)


@pytest.mark.parametrize(
    ("age", "left", "due"),
    [(90, 400, True), (89, 400, False), (1, 14, True), (1, 15, False), (1, -1, True)],
)
def test_by_age_or_by_end(age, left, due):
    live = config(key_valid_after=-age, key_valid_before=left)
    assert bool(due_reason(RULE, live, NOW)) is due
    assert due_reason(RotationRule(), live, NOW) == ""


def test_a_key_ages_from_its_own_beginning_and_not_from_when_it_was_made_live():
    old_key = config(key_valid_after=-100, credential_updated=-1)
    assert due_reason(RULE, old_key, NOW) == "the key is of 2026-08-14T12:00:00Z, max_age is 90d"
    rolled_back = config(key_valid_after=-2, credential_updated=-100)
    assert due_reason(RULE, rolled_back, NOW) == ""


def test_a_key_without_times_ages_from_when_it_was_made_live():
    assert due_reason(RULE, config(credential_updated=-90), NOW)
    assert due_reason(RULE, config(credential_updated=-89), NOW) == ""
    assert due_reason(RULE, config(), NOW) == ""


def test_the_words_tell_a_key_that_ends_from_one_that_has_ended():
    soon = due_reason(RULE, config(key_valid_before=3), NOW)
    assert soon == "the key expires 2026-11-25T12:00:00Z, renew_before is 14d"
    assert "expired" in due_reason(RULE, config(key_valid_before=0), NOW)


@pytest.mark.parametrize(("text", "days"), [("36h", 1.5), ("90m", 1 / 16), ("20s", 1 / 4320)])
def test_the_rule_is_told_in_its_largest_whole_unit(text, days):
    rule = RotationRule(max_age=timedelta(days=days))
    assert due_reason(rule, config(key_valid_after=-9), NOW).endswith(f"max_age is {text}")


def test_nothing_is_due_where_nothing_is_live():
    gone = config(configured=False, key_valid_after=-999, credential_updated=-999)
    assert due_reason(RULE, gone, NOW) == ""


def test_what_the_engine_tells_is_understood():
    rig = memory_rig()
    try:
        live = rig.gateway.engine(rig.configured()).config()
    finally:
        rig.gateway.close()
    rule = RotationRule(max_age=timedelta(days=31))
    now = datetime.now(UTC)
    assert due_reason(rule, live, now) == ""
    assert due_reason(rule, live, now + timedelta(days=1, minutes=1))
