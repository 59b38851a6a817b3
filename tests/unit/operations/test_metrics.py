"""Metrics of a reading: what could not be read has no sample."""

from __future__ import annotations

import pytest

from skyflowctl.errors import Problem, UnreachableError
from skyflowctl.operations.metrics import (
    KeptReading,
    Reading,
    metric_families,
    metrics_json,
    metrics_text,
)
from skyflowctl.operations.status import CredentialStatus, MountStatus, StatusResult
from skyflowctl.planner.plan import DriftKind
from skyflowctl.vault.live import FULL_API, LiveRevocation

KEY = CredentialStatus("c", "k", 2, 90, "2026-12-01T00:00:00Z", due=True)
GOOD = MountStatus("order", "skyflow/order", "skyflow", "v1.0.0", "ok", FULL_API, ("a", "b"), KEY)
UNREAD = MountStatus(
    "dark", "skyflow/dark", "skyflow", "", "unreachable", problem=Problem("x", "no", "w", "f")
)
CUT_OFF = MountStatus(
    "payment", "skyflow/payment", "skyflow", "v1.0.0", "unconfigured", FULL_API,
    revoked=LiveRevocation("2026-11-29T00:00:00Z", "ann", "INC-1", "run-1", "k"),
)  # fmt: skip


def values(reading: Reading) -> dict[tuple[str, ...], float]:
    return {
        (one.name, *(text for key, text in sorted(one.labels.items()) if key != "path")): one.value
        for family in metric_families(reading)
        for one in family.samples
    }


def test_each_mount_has_what_could_be_read_of_it_and_nothing_else():
    found = values(Reading(StatusResult((GOOD, UNREAD, CUT_OFF)), "https://n1", seconds=0.5))
    assert found == {
        ("skyflow_up",): 1,
        ("skyflow_read_duration_seconds",): 0.5,
        ("skyflow_mount_health", "order", "ok"): 1,
        ("skyflow_mount_health", "dark", "ok"): 0,
        ("skyflow_mount_health", "dark", "unreachable"): 1,
        ("skyflow_mount_health", "payment", "ok"): 0,
        ("skyflow_mount_health", "payment", "unconfigured"): 1,
        ("skyflow_engine_info", "order", "https://n1", "v1.0.0"): 1,
        ("skyflow_engine_info", "payment", "https://n1", "v1.0.0"): 1,
        ("skyflow_roles", "order"): 2,
        ("skyflow_roles", "payment"): 0,
        ("skyflow_mount_revoked", "order"): 0,
        ("skyflow_mount_revoked", "payment"): 1,
        ("skyflow_credential_age_seconds", "order"): 90,
        ("skyflow_credential_expiry_timestamp_seconds", "order"): 1796083200,
        ("skyflow_rotation_due", "order"): 1,
    }


def test_a_server_that_could_not_be_read_is_down_and_nothing_is_said_of_mounts():
    assert values(Reading(None)) == {("skyflow_up",): 0}


def test_drift_and_changes_are_there_only_if_they_were_counted():
    made = Reading(StatusResult(()), drift={"undeclared": 2}, changes=3)
    assert values(made)["skyflow_drift", "undeclared"] == 2
    assert values(made)["skyflow_pending_changes",] == 3
    none = values(Reading(StatusResult(()), drift={}, changes=0))
    assert {name: value for name, value in none.items() if name[0] == "skyflow_drift"} == {
        ("skyflow_drift", kind): 0 for kind in DriftKind
    }
    assert not any(name[0] == "skyflow_drift" for name in values(Reading(StatusResult(()))))


def test_the_text_has_every_sample_of_the_json():
    made = metrics_json(Reading(StatusResult((GOOD, CUT_OFF))))
    lines = [line for line in metrics_text(made).splitlines() if not line.startswith("#")]
    assert len(lines) == sum(len(one["samples"]) for one in made)
    assert 'skyflow_roles{mount="order",path="skyflow/order"} 2.0' in lines


def test_scrapes_of_one_moment_share_a_reading_and_a_failure_is_one():
    now, asked, told = [0.0], [], []

    def read() -> Reading:
        asked.append(now[0])
        if now[0] > 10:
            raise UnreachableError("the server is unreachable", why="refused", fix="start it")
        return Reading(StatusResult((GOOD,)))

    kept = KeptReading(read, told.append, lambda: now[0])
    assert kept.newest() is kept.newest()
    now[0] = 6.0
    kept.newest()
    assert asked == [0.0, 6.0]
    now[0] = 12.0
    assert kept.newest().status is None
    assert told == ["nothing was read: the server is unreachable (refused)"]


def test_an_error_of_another_kind_is_not_a_reading():
    def read() -> Reading:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        KeptReading(read).newest()
