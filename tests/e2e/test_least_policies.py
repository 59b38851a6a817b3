"""The policies of ``init --with operators``: each is enough for its person, and for no other."""

from __future__ import annotations

import pytest
from support.stack import Stack, running_stack

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

MINT = "creds order order-producer --ctx order:1"
ROTATE = "rotate order --generate -y"
ALLOWED = {
    "operator": ("plan", "apply -y", "status"),
    "rotator": (ROTATE,),
    "auditor": ("status", "audit posture"),
    "application": (MINT,),
}
REFUSED = {
    "operator": (MINT,),
    "rotator": (MINT, "apply -y"),
    "auditor": (MINT, ROTATE, "apply -y"),
    "application": ("creds order order-producer --ctx txn:1", ROTATE, "apply -y"),
}


def test_each_policy_is_enough_for_its_person_and_refuses_the_work_of_others() -> None:
    with running_stack(None) as stack:
        stack.cli("init", "--with", "operators")
        stack.cli("apply", "-y", exported=True)
        manifest = stack.folder / "mounts.yaml"
        people = {name: logged_in(stack, name) for name in ALLOWED}
        assert "No changes" in people["operator"].cli("plan", exported=True).stdout
        text = manifest.read_text().replace("Order service writer", "Order writer")
        manifest.write_text(text.replace("Order orchestration", "Orders"))
        for name, lines in REFUSED.items():
            for line in lines:
                done = people[name].cli(*line.split(), exported=True, check=None)
                assert done.returncode == 4, (name, line, done)
        for name, lines in ALLOWED.items():
            for line in lines:
                done = people[name].cli(*line.split(), exported=True, check=None)
                # posture: 6 reports findings
                codes = {0, 6} if line == "audit posture" else {0}
                assert done.returncode in codes, (name, line, done)
        assert "No changes" in people["operator"].cli("plan", exported=True).stdout
        path = people["operator"].bao("policy", "write", "operator", "/dev/null", check=False)
        assert path.returncode != 0


def logged_in(stack: Stack, policy: str) -> Stack:
    made = stack.bao("token", "create", f"-policy={policy}", "-field=token").stdout.strip()
    exports = {**stack.exports, "BAO_TOKEN": made, "VAULT_TOKEN": made}
    return Stack(stack.folder, stack.environ, exports)
