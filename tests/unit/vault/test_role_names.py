"""A role's name is one part of a path: nothing else is ever put into one."""

from __future__ import annotations

import pytest
from support.cli import checked_envelope, invoke
from support.fake_server import FakeServer

from skyflowctl.errors import ExitCode
from skyflowctl.vault.errors import BadRoleNameError
from skyflowctl.vault.gateway import Gateway

NO_NAMES = (
    "",
    ".",
    "..",
    "../config",
    "../../payment/creds/payment-producer",
    "order-producer/",
    "a/b",
    "A",
    "-a",
    "a b",
    "a%2fb",
    "a?x=y",
    "a\n",
    "a" * 64,
)
CALLS = {
    "creds": lambda gateway, name: gateway.engine("skyflow/order").creds(name, "order:x"),
    "creds with an object": lambda gateway, name: gateway.engine("skyflow/order").creds(
        name, {"a": "b"}
    ),
    "wrapped creds": lambda gateway, name: gateway.engine("skyflow/order").wrapped_creds(
        name, None, "5m"
    ),
    "read": lambda gateway, name: gateway.engine("skyflow/order").role(name),
    "write": lambda gateway, name: gateway.engine("skyflow/order").write_role(
        name, {"role_ids": ["r"]}
    ),
    "delete": lambda gateway, name: gateway.engine("skyflow/order").delete_role(name),
}


@pytest.mark.parametrize("call", CALLS)
def test_no_request_is_made_for_what_is_no_name(call):
    server = FakeServer()
    for name in NO_NAMES:
        with pytest.raises(BadRoleNameError) as refused:
            CALLS[call](Gateway(server), name)
        problem = refused.value.problems[0]
        assert refused.value.exit_code is ExitCode.USAGE
        assert all((problem.summary, problem.why, problem.fix))
        assert problem.summary.isprintable()
    assert server.log == []


@pytest.mark.parametrize("name", ["a", "order-producer", "0_x", "a" * 63])
def test_a_name_is_asked_for(name):
    server = FakeServer()
    server.mounts["skyflow/order"], server.roles["skyflow/order"] = {}, {}
    assert Gateway(server).engine("skyflow/order").role(name) is None
    assert server.log[-1][:2] == ("GET", f"skyflow/order/roles/{name}")


@pytest.mark.parametrize("name", ["../../payment/creds/payment-producer", "", "order-producer/"])
@pytest.mark.parametrize("words", [("creds",), ("creds", "--wrap-ttl=5m"), ("role", "show")])
def test_the_command_line_says_so_before_it_connects(words, name):
    env = {"BAO_ADDR": "http://127.0.0.1:9", "BAO_TOKEN": "x"}
    done = invoke(*words, "order", name, "-o", "json", env=env)
    error = checked_envelope(done.stdout)["errors"][0]
    assert (done.exit_code, error["code"]) == (64, "bad-role-name")
