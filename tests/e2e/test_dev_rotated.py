"""On a real dev stack: what is left of the stand-ins after a rotation and its retirement."""

from __future__ import annotations

import json
import stat
from typing import Any

import pytest
from support.stack import Stack, running_stack

from skyflowctl.devstack.emulator import dev_management
from skyflowctl.devstack.layout import DevLayout

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

CREDS = ("creds", "order", "order-producer", "--ctx", "order:ORD-42")


def test_a_rotated_mount_is_left_alone_and_a_new_server_gets_what_mints():
    with running_stack(apply=True) as stack:
        layout = DevLayout(stack.dev)
        old = stand_in(layout)
        new = rotate_and_retire(stack, layout, old)
        for _ in range(2):
            assert warned(stack.json("plan", "--detailed-exitcode")) == ["rotated-past"]
            assert warned(stack.json("apply", "-y")) == ["rotated-past"]
        assert stack.json("creds", *CREDS[1:])["data"]["key_id"] == new
        assert stand_in(layout) == old
        assert list(history(stack).values()) == [old["keyID"], new]

        stack.cli("dev", "down")
        stack.cli("dev", "up")
        stack.load_exports()
        assert stand_in(layout)["keyID"] not in (old["keyID"], new)
        stack.cli("apply", "-y", exported=True)
        minted = stack.json("creds", *CREDS[1:])["data"]
        assert minted["key_id"] == stand_in(layout)["keyID"]

        an_older_folder_gains_an_operator(stack, layout)


def rotate_and_retire(stack: Stack, layout: DevLayout, old: dict[str, Any]) -> str:
    """Give the mount a key that Skyflow makes, and delete the stand-in's own; the new id."""
    api = dev_management(layout)
    new = api.create_key(old["clientID"]).reveal()
    stack.api("PUT", "skyflow/order/config", {"credentials_json": new})
    api.delete_key(old["clientID"], old["keyID"])
    assert old["keyID"] not in [key.key_id for key in api.list_keys(old["clientID"])]
    return json.loads(new)["keyID"]


def an_older_folder_gains_an_operator(stack: Stack, layout: DevLayout) -> None:
    """As one that an earlier version made: the emulator runs, and there is no token."""
    layout.skyflow_operator_token.unlink()
    layout.skyflow_account_id.unlink()
    known = stand_in(layout)
    up = stack.json("dev", "up")
    assert up["status"] == "ok"
    for file in (layout.skyflow_operator_token, layout.skyflow_account_id):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keys = dev_management(layout).list_keys(known["clientID"])
    assert known["keyID"] in [key.key_id for key in keys]
    stack.cli(*CREDS, exported=True)
    again = json.loads((stack.dev / "dev.json").read_text())["emulator"]
    stack.cli("dev", "up")
    assert json.loads((stack.dev / "dev.json").read_text())["emulator"] == again


def stand_in(layout: DevLayout) -> dict[str, Any]:
    return json.loads(layout.credential("order").read_text())


def history(stack: Stack) -> dict[str, str]:
    info = stack.api("LIST", "skyflow/order/config/history")["data"]["key_info"]
    return {version: info[version]["key_id"] for version in sorted(info, key=int)}


def warned(whole: dict[str, Any]) -> list[str]:
    """The codes of a plan's warnings; it has no action."""
    assert whole["data"]["actions"] == []
    return [one["code"] for one in whole["data"]["warnings"]]
