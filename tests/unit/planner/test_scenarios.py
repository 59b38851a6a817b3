"""Plans as their reader sees them: tests/scenarios/plan/<case>/{mounts.yaml, live.json, plan.txt}.

``live.json`` writes down what the server holds, and beside it what the plan is also told:
``identities`` ([client id, key id] of each resolved credential, null for one that was not),
``reasons``, ``replace_credential`` and ``allow_revoked_key``.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from support.planning import live_from_json, replacing, simulate

from skyflowctl.cli.commands.plan_view import plan_json, show_plan
from skyflowctl.cli.console import Terminal
from skyflowctl.cli.problems import show_warnings
from skyflowctl.credentials.model import CredentialId
from skyflowctl.manifest.load import load_manifest
from skyflowctl.planner.diff import make_plan

CASES = sorted((Path(__file__).parents[2] / "scenarios" / "plan").iterdir())


def planned(case: Path):
    raw = json.loads((case / "live.json").read_text())
    manifest = load_manifest([str(case / "mounts.yaml")], environ={}).manifest
    keys = {name: CredentialId(*pair) if pair else None for name, pair in raw["identities"].items()}

    def plan_of(live):
        return make_plan(
            manifest,
            live,
            keys,
            replacing(
                *raw.get("replace_credential", ()), allow=tuple(raw.get("allow_revoked_key", ()))
            ),
            reasons=raw.get("reasons"),
        )

    return plan_of, live_from_json(raw), keys


def shown(plan, case: Path) -> str:
    """What ``skyflowctl plan`` writes: the plan, then on stderr its warnings."""
    text = io.StringIO()
    terminal = Terminal(no_color=True, out=text, err=text)
    show_plan(plan_json(plan), terminal)
    show_warnings(plan.warnings, terminal)
    return text.getvalue().replace(f"{case}/", "")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_plan_reads_as_written_down(case):
    plan_of, live, _ = planned(case)
    assert shown(plan_of(live), case) == (case / "plan.txt").read_text()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_after_it_there_is_nothing_left_to_do(case):
    plan_of, live, keys = planned(case)
    first = plan_of(live)
    if any(action.needs_credential and not keys[action.mount] for action in first.actions):
        pytest.fail("not appliable") if case.name != "unconfigured-and-unresolved" else None
        return
    assert plan_of(simulate(first.actions, live, keys)).empty


def test_there_are_enough_cases():
    assert len(CASES) >= 20
