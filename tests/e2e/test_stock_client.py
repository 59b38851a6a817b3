"""What the stock ``bao`` client sees of an applied manifest, on a real server."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from ssl import create_default_context

import pytest
from support.stack import Stack

pytestmark = pytest.mark.real_server


def claims(token: str) -> dict:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def token_for(stack: Stack, path: str, ctx: str) -> str:
    return stack.bao("read", "-field=access_token", path, f"ctx={ctx}").stdout.strip()


def data_plane(stack: Stack, token: str, vault: str) -> int:
    """Read from the emulator's vault that asks for the role ``vault``; return the status."""
    address = json.loads((stack.dev / "dev.json").read_text())["emulator"]["port"]
    request = urllib.request.Request(
        f"https://127.0.0.1:{address}/v1/vaults/{vault}/persons?skyflow_ids=x",
        headers={"Authorization": f"Bearer {token}"},
    )
    context = create_default_context(cafile=str(stack.dev / "tls" / "ca.pem"))
    try:
        with urllib.request.urlopen(request, context=context, timeout=10) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def test_read_returns_a_token_that_carries_the_ctx(stack: Stack) -> None:
    reply = json.loads(
        stack.bao(
            "read", "-format=json", "skyflow/order/creds/order-producer", "ctx=order:ORD-42"
        ).stdout
    )["data"]
    assert claims(reply["access_token"])["ctx"] == "order:ORD-42"
    assert reply["token_type"] == "Bearer"
    assert 3500 < reply["ttl"] <= 3600
    assert reply["credential_version"] == 1
    assert reply["key_id"]
    assert reply["expires_at"].endswith("Z")


def test_list_shows_every_role(stack: Stack) -> None:
    listed = json.loads(stack.bao("list", "-format=json", "skyflow/order/roles").stdout)
    assert "order-producer" in listed
    assert len(listed) >= 3


def test_path_help_describes_the_path_and_its_fields(stack: Stack) -> None:
    text = stack.bao("path-help", "skyflow/order/creds/order-producer").stdout
    assert "ctx" in text
    assert "token" in text.lower()


def test_health_reads_healthy(stack: Stack) -> None:
    reply = json.loads(stack.bao("read", "-format=json", "skyflow/payment/health").stdout)["data"]
    assert reply["healthy"] is True
    assert reply["configuration_status"] == "ok"
    assert reply["token_service"]["reachable"] is True


def test_data_plane_takes_the_token_for_its_role_and_no_other(stack: Stack) -> None:
    token = token_for(stack, "skyflow/order/creds/order-producer", "order:ORD-42")
    own = json.loads(
        stack.bao("read", "-format=json", "skyflow/order/roles/order-producer").stdout
    )["data"]["role_ids"][0]
    other = json.loads(stack.bao("list", "-format=json", "-detailed", "skyflow/order/roles").stdout)
    others = {info["role_ids"][0] for info in other["data"]["key_info"].values()} - {own}
    assert data_plane(stack, token, own) == 200
    assert {data_plane(stack, token, role) for role in others} == {403}


def test_a_ctx_outside_the_pattern_is_a_400_that_says_why_and_stays_hidden(stack: Stack) -> None:
    marker = "wrong-ctx-7f3a9"
    done = stack.bao("read", "skyflow/order/creds/order-producer", f"ctx={marker}", check=False)
    assert done.returncode == 2
    assert "Code: 400" in done.stderr
    assert "ctx" in done.stderr
    assert "pattern" in done.stderr
    # The client's own first line repeats the address that it asked for.
    assert marker not in done.stderr.partition("Errors:")[2]
    log = stack.audit_log.read_text()
    assert "creds/order-producer" in log
    assert marker not in log


def test_an_unknown_role_is_a_400_with_its_reason(stack: Stack) -> None:
    done = stack.bao("read", "skyflow/order/creds/nobody", check=False)
    assert "unknown role" in done.stderr


def test_hvac_as_shipped_reads_a_token(stack: Stack) -> None:
    import subprocess
    import sys

    script = (
        "import hvac; c = hvac.Client(); "
        "print(c.read('skyflow/order/creds/order-producer?ctx=order:ORD-1')['data']['token_type'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**stack.environ, **stack.exports},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "Bearer", done.stderr
