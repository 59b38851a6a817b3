"""A plan of 200 mounts with 5 roles each and 3 consumers for each role: what it asks for.

2 + 2M requests for M mounts, 2 for the lists of policies and login methods, and one for each login
role, of which AppRole lists only the names.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support.fake_server import FakeCredentials, FakeReplacer, FakeServer
from support.many import manifest_text

from skyflowctl.manifest.load import load_manifest
from skyflowctl.operations.apply import apply
from skyflowctl.operations.plan import plan
from skyflowctl.planner.plan import PlanOptions, PruneOptions
from skyflowctl.vault.gateway import Gateway

MOUNTS, ROLES, CONSUMERS = 200, 5, 3
LOGINS = MOUNTS * ROLES * CONSUMERS


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory):
    """The manifest, and a server on which it was applied."""
    path: Path = tmp_path_factory.mktemp("many") / "mounts.yaml"
    path.write_text(manifest_text(MOUNTS, ROLES, CONSUMERS))
    manifest = load_manifest([str(path)], environ={}).manifest
    server, source = FakeServer(), FakeCredentials()
    gateway = Gateway(server)
    applied = apply(plan(manifest, gateway, source), gateway, source, FakeReplacer())
    assert applied.exit_code == 0
    return manifest, server


def _asked(many, options: PlanOptions | None = None) -> Counter[str]:
    """The requests of a second plan, which is empty, by method and kind of path."""
    manifest, server = many
    before = len(server.log)
    made = plan(manifest, Gateway(server), FakeCredentials(), options)
    assert (made.plan.empty, made.plan.drift, made.plan.not_compared) == (True, (), {})
    return Counter(f"{method} {_kind(path)}" for method, path, _ in server.log[before:])


def _kind(path: str) -> str:
    if path.startswith("auth/approle/role/"):
        return "login role"
    return path.rpartition("/")[2] if path.startswith("skyflow/") else path


WHOLE = {
    "GET sys/mounts": 1,
    "GET sys/config/auditing/request-headers": 1,
    "GET config": MOUNTS,
    "LIST roles": MOUNTS,
    "LIST sys/policies/detailed/acl": 1,
    "GET sys/auth": 1,
    "GET login role": LOGINS,
}


def test_a_plan_asks_for_lists_and_for_nothing_that_a_list_has_given(many):
    assert _asked(many) == WHOLE
    assert sum(WHOLE.values()) == 2 + 2 * MOUNTS + 2 + LOGINS


def test_a_prune_asks_for_four_lists_more(many):
    prune = PlanOptions(prune=PruneOptions())
    listed = ("auth/approle/role", "identity/group/name", "sys/namespaces", "sys/quotas/rate-limit")
    lists = {f"LIST {path}": 1 for path in listed}
    assert _asked(many, prune) == {**WHOLE, **lists}


def test_a_plan_of_one_mount_asks_for_its_own_logins(many):
    one = PlanOptions(only=frozenset({"m007"}))
    chosen = {"GET config": 1, "LIST roles": 1, "GET login role": ROLES * CONSUMERS}
    assert _asked(many, one) == WHOLE | chosen
