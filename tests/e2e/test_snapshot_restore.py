"""A server snapshot whose live key was retired since: status says so, and rotate mends it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bao import running_bao
from support.cluster import wait_until
from support.emulator import running_emulator
from support.plugin import register_skyflow
from support.site import Site

pytestmark = [pytest.mark.real_server, pytest.mark.slow, pytest.mark.timeout(180)]

MANIFEST = """\
version: 1
manifest: shop
mounts:
  payment:
    credentials: {file: payment.json}
    rotation: {retire_margin: 1s}
    roles:
      engine: {role_ids: [role-engine]}
  order:
    credentials: {file: order.json}
    roles:
      reader: {role_ids: [role-order]}
"""


class Restored(Site):
    """A server on disk, and a mount whose key a restore brings back."""

    @property
    def operator(self) -> tuple[str, ...]:
        """The flags that name the operator at Skyflow."""
        return (
            *("--operator-token", "file:operator.token"),
            *("--account-id", self.emulator.account_id),
            *("--management-host", self.emulator.host),
        )

    def new_key(self) -> str:
        """Another key of payment's account, put behind the manifest's reference; its id."""
        client_id = json.loads((self.folder / "payment.json").read_text())["clientID"]
        text = self.emulator.control.create_key(client_id).reveal()
        self.write("payment.json", text)
        return json.loads(text)["keyID"]

    def states(self) -> dict[str, tuple[str, str]]:
        """What ``status`` says of each mount: health and key."""
        rows = self.cli("status")["data"]["mounts"]
        return {row["name"]: (row["health"], row["credential"]["key_id"]) for row in rows}

    def restore(self, snapshot: Path, key_id: str) -> None:
        """Go back to a snapshot, and wait until the server serves what was in it."""
        self.server.bao("operator", "raft", "snapshot", "restore", str(snapshot))

        def restored() -> bool:
            status, body = self.server.api("GET", "skyflow/payment/config")
            return status == 200 and body["data"]["key_id"] == key_id

        wait_until(restored, "the snapshot is not there")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restored]:
    folder = tmp_path_factory.mktemp("site")
    with running_emulator() as emulator, running_bao(raft=True) as server:
        env = [f"SSL_CERT_FILE={emulator.ca}"]
        register_skyflow(server, args=["--allow-host", emulator.host], env=env)
        emulator.control.set_token_lifetime(3)
        site = Restored(server, emulator, folder)
        site.write("payment.json", emulator.new_account("role-engine"))
        site.write("order.json", emulator.new_account("role-order"))
        site.write("operator.token", emulator.operator_token.reveal())
        (folder / "mounts.yaml").write_text(MANIFEST)
        site.cli("apply", "-y")
        yield site


@pytest.mark.parametrize("mend", ["reference", "generate"])
def test_a_restored_mount_whose_key_is_gone_is_refused_and_rotate_mends_it(
    site: Restored, mend: str
) -> None:
    (_, old), order = site.states()["payment"], site.states()["order"]
    snapshot = site.folder / f"{secrets.token_hex(4)}.snapshot"
    site.server.bao("operator", "raft", "snapshot", "save", str(snapshot))
    site.new_key()
    site.cli("rotate", "payment", "-y", "--retire-old", *site.operator)

    site.restore(snapshot, old)
    assert site.states() == {"payment": ("refused", old), "order": order}
    health = site.cli("health", code=6)["data"]["mounts"]
    assert {row["name"]: row["state"] for row in health} == {"payment": "refused", "order": "ok"}

    how = ("--generate", *site.operator) if mend == "generate" else ()
    [mended] = site.cli("rotate", "payment", "-y", *how)["data"]["mounts"]
    assert (mended["result"], mended["from"]) == ("rotated", old)
    assert site.states() == {"payment": ("ok", mended["live_key_id"]), "order": order}
    assert site.cli("creds", "payment", "engine")["data"]["key_id"] == mended["to"]
