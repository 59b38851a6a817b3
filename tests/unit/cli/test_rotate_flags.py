"""What a ``rotate`` command line means, and which ones contradict themselves."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.cli import checked_envelope, invoke

from skyflowctl.cli.commands.rotate.options import CareOptions, OperatorOptions, RotateOptions
from skyflowctl.cli.commands.rotate.request import read_request
from skyflowctl.operations.rotate.request import Verb


@pytest.mark.parametrize(
    "line",
    [
        "",
        "order --all",
        "order --due",
        "--all --due",
        "order --credentials a.json --generate",
        "order pay --credentials a.json",
        "--all --credentials a.json",
        "order pay --previous a.json",
        "order --previous a.json --no-rollback",
        "order --rollback --retire",
        "order --rollback --generate",
        "order --retire --dry-run",
        "order --retire --retire-old",
        "order --retire --wait --now",
        "order --wait",
        "--rollback --all",
        "--retire --due",
        "order --rollback --retire-old",
        "order --rollback --watch 2m",
        "order --to 2",
        "order pay --rollback --to 2",
        "order --now",
        "order --kept-copy-only",
        "order --retire --allow-destroy=skyflow/order",
        "order --rollback --now",
        "order --watch soon",
        "order --credentials nonsense",
        "order --operator-token nonsense",
        "order --rollback --to 0",
    ],
)
def test_a_contradiction_is_wrong_usage_that_says_what_to_do(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("rotate", *line.split(), "-o", "json")
    assert done.exit_code == 64, done.stdout
    problem = checked_envelope(done.stdout)["errors"][0]
    assert problem["summary"]
    assert problem["fix"]


def read(*names, care=None, **flags):
    return read_request(names, RotateOptions(**flags), care or CareOptions(), OperatorOptions())


@pytest.mark.parametrize(
    ("flags", "verb"),
    [
        ({}, Verb.ROTATE),
        ({"generate": True}, Verb.ROTATE),
        ({"dry_run": True, "watch": "2m"}, Verb.PREVIEW),
        ({"rollback": True, "to": 3}, Verb.ROLLBACK),
        ({"retire": True, "now": True, "allow_destroy": ["skyflow/order"]}, Verb.RETIRE),
        ({"retire": True, "kept_copy_only": True}, Verb.RETIRE),
        ({"retire": True, "wait": True}, Verb.RETIRE),
    ],
)
def test_what_is_done(flags, verb):
    assert read("order", **flags).verb is verb


def test_options_are_read():
    care = CareOptions(allow_unverified_nodes=True, stale_after="1m30s")
    options = read("order", care=care, watch="2m", canary=["a", "b"]).options
    assert (options.watch, options.stale_after) == (timedelta(minutes=2), timedelta(seconds=90))
    assert (options.canaries, options.unverified_nodes) == (("a", "b"), True)
    assert read("order").options.stale_after == timedelta(seconds=10)


def test_a_rollback_flag_may_stand_before_or_behind_the_mount(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = invoke("rotate", "--rollback", "pay", "-o", "json")
    behind = invoke("rotate", "pay", "--rollback", "-o", "json")
    # Both get as far as the missing server.
    for done in (before, behind):
        assert done.exit_code == 64
        assert checked_envelope(done.stdout)["errors"][0]["code"] != "contradiction"
        assert "address" in checked_envelope(done.stdout)["errors"][0]["fix"]


def test_retire_takes_every_mount():
    assert read(retire=True, everything=True).names == ()


def test_what_waits_is_named_to_whom_would_wait():
    done = invoke("rotate", "order", "--retire", "--retire-old", "-o", "json")
    assert "--retire --wait" in checked_envelope(done.stdout)["errors"][0]["fix"]


def test_an_option_without_its_value_leads_to_the_page_of_its_command():
    done = invoke("rotate", "order", "-o", "json", "--watch")
    assert done.exit_code == 64
    assert "skyflowctl rotate --help" in checked_envelope(done.stdout)["errors"][0]["fix"]
