"""Five mounts that people made by hand, each in another way, are adopted by one manifest."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.bao import BaoServer, running_bao
from support.cli import checked_envelope, invoke
from support.emulator import RunningEmulator
from support.plugin import register_skyflow

pytestmark = [pytest.mark.real_server, pytest.mark.slow]

MANIFEST = """
version: 1
manifest: adopted
defaults: {tags: [env:prod], audit: {plain_ctx: false}}
mounts:
  order:
    description: Orders
    credentials: {file: order.json}
    roles: {writer: {role_ids: [r-order-writer], description: Order service}}
  payment:
    path: teams/pay/vault
    description: Payments of team pay
    credentials: {file: payment.json}
    roles: {charge: {role_ids: [r-charge], ctx: {required: true, probe: "pay:probe"}}}
  risk:
    description: Risk scores
    tags: [product:risk]
    credentials: {live: true}
    roles:
      score: {role_ids: [r-score], reuse: {min_ttl: 30m, per: role}, tags: [tier:gold]}
  kyc:
    path: kyc
    credentials: {file: kyc.json}
    roles: {checker: {role_ids: [r-checker]}, reader: {role_ids: [r-reader]}}
  claims:
    credentials: {file: claims.json}
    protect: true
    roles: {agent: {role_ids: [r-agent], ctx: {pattern: "claim:*", probe: "claim:probe"}}}
"""
READS = (
    ("skyflow/order/creds/writer", ""),
    ("teams/pay/vault/creds/charge", "pay:1"),
    ("skyflow/risk/creds/score", ""),
    ("kyc/creds/checker", ""),
    ("kyc/creds/reader", ""),
    ("kyc/creds/legacy", ""),
    ("skyflow/claims/creds/agent", "claim:1"),
)
METADATA = {
    "mount": {
        "description",
        "passthrough_request_headers",
        "audit_non_hmac_request_keys",
        "audit_non_hmac_response_keys",
        *(f"options.{name}" for name in ("managed_by", "manifest", "files", "adopted", "protect")),
    },
    "config": {"description", "tags"},
    "role": {"description", "tags"},
    "audited_header": {"hmac"},
}
"""By kind: no field of these decides which tokens a mount gives, and to whom."""
KEPT = {
    "teams/pay/vault": {"default_lease_ttl": 1800, "max_lease_ttl": 7200},
    "kyc": {"force_no_cache": True},
}
"""Settings of a person that no manifest has a key for."""


@pytest.fixture(scope="module")
def server(emulator: RunningEmulator) -> Iterator[BaoServer]:
    with running_bao() as running:
        args = ["--allow-host", emulator.host]
        register_skyflow(running, args=args, env=[f"SSL_CERT_FILE={emulator.ca}"])
        yield running


def made_by_hand(server: BaoServer, emulator: RunningEmulator, folder: Path) -> None:
    """Make five mounts with the stock client, as five people would."""

    def key(name: str, *roles: str) -> str:
        path = folder / f"{name}.json"
        path.write_text(emulator.new_account(*roles))
        path.chmod(0o600)
        return f"credentials_json=@{path}"

    run = server.bao
    run("secrets", "enable", "-path=skyflow/order", "-description=Orders", "skyflow")
    run("write", "skyflow/order/config", key("order", "r-order-writer"), "tags=env:prod")
    run("write", "skyflow/order/roles/writer", "role_ids=r-order-writer")

    lease = ["-default-lease-ttl=30m", "-max-lease-ttl=2h", "-listing-visibility=unauth"]
    run("secrets", "enable", "-path=teams/pay/vault", *lease, "skyflow")
    run("secrets", "tune", "-audit-non-hmac-request-keys=ctx", "teams/pay/vault")
    config = [key("payment", "r-charge"), "description=do not touch", "tags=team:pay,env:prod"]
    run("write", "teams/pay/vault/config", *config)
    role = ["role_ids=r-charge", "ctx_required=true", "ctx_probe=pay:probe", "tags=by:anna"]
    run("write", "teams/pay/vault/roles/charge", *role)

    run("secrets", "enable", "-path=skyflow/risk", "-options=owner=risk", "skyflow")
    run(
        "write",
        "skyflow/risk/roles/score",
        "role_ids=r-score",
        "reuse_min_ttl=30m",
        "reuse_per=role",
    )
    run("write", "skyflow/risk/config", key("risk", "r-score"), "validate_credentials=false")

    run("secrets", "enable", "-path=kyc", "-force-no-cache", "-description=KYC (old)", "skyflow")
    run("write", "kyc/config", key("kyc", "r-checker", "r-reader", "r-legacy"))
    for name in ("checker", "reader", "legacy"):
        run("write", f"kyc/roles/{name}", f"role_ids=r-{name}", f"description=made for {name}")

    run(
        "secrets",
        "enable",
        "-path=skyflow/claims",
        "-passthrough-request-headers=X-Team",
        "skyflow",
    )
    run("write", "skyflow/claims/config", key("claims", "r-agent"), "description=claims")
    role = ["role_ids=r-agent", "ctx_pattern=claim:*", "ctx_probe=claim:probe"]
    run("write", "skyflow/claims/roles/agent", *role)


@contextmanager
def tokens_flow(server: BaoServer) -> Iterator[Counter[int]]:
    """Read creds of every role without pause; how often each status was seen."""
    seen: Counter[int] = Counter()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.update(statuses(server))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        stop.set()
        reader.join()


def statuses(server: BaoServer) -> list[int]:
    return [server.api("GET", f"{path}?ctx={ctx}".removesuffix("?ctx="))[0] for path, ctx in READS]


def keys(server: BaoServer) -> dict[str, tuple[str, int]]:
    """The live key of each mount, and the number of its version."""
    paths = {path.partition("/creds/")[0] for path, _ in READS}
    configs = {one: server.api("GET", f"{one}/config")[1]["data"] for one in paths}
    return {one: (each["key_id"], each["credential_version"]) for one, each in configs.items()}


def test_the_first_plan_changes_metadata_alone_and_tokens_keep_flowing(
    server: BaoServer, emulator: RunningEmulator, tmp_path: Path
) -> None:
    made_by_hand(server, emulator, tmp_path)
    (tmp_path / "mounts.yaml").write_text(MANIFEST)
    before = keys(server)

    def run(*words: str, code: int = 0) -> dict:
        where = ["-f", str(tmp_path / "mounts.yaml"), "--allow-host", emulator.host, "-o", "json"]
        env = {name: text for name, text in server.env().items() if name.startswith("BAO_")}
        done = invoke(*words, *where, env=env)
        assert done.exit_code == code, done.output
        return checked_envelope(done.stdout)

    with tokens_flow(server) as seen:
        refused = run("apply", "-y", code=5)
        assert {one["code"] for one in refused["errors"]} == {"needs-adoption"}
        adopt = [re.search(r"--adopt=\S+", one["fix"])[0] for one in refused["errors"]]
        assert len(adopt) == 5 + 5 + 6
        first = run("plan", *adopt)["data"]
        changed = [one for one in first["actions"] if one["kind"] != "audited_header"]
        assert {one["action"] for one in changed} == {"update"}
        assert {one["mount"] for one in changed} == {"order", "payment", "risk", "kyc", "claims"}
        for one in first["actions"]:
            assert {change["field"] for change in one["changes"]} <= METADATA[one["kind"]], one
        assert [(one["kind"], one["path"]) for one in first["drift"]] == [
            ("undeclared", "kyc/roles/legacy")
        ]
        so_far = seen.total()
        applied = run("apply", "-y", *adopt)["data"]
        assert {one["result"] for one in applied["actions"]} == {"done"}
        second = run("plan")["data"]
    assert seen.total() - so_far > len(READS)
    assert set(seen) == {200}
    assert set(statuses(server)) == {200}
    assert second["actions"] == []
    assert [one["path"] for one in second["drift"]] == ["kyc/roles/legacy"]
    assert keys(server) == before
    for path, kept in KEPT.items():
        config = server.api("GET", f"sys/mounts/{path}/tune")[1]["data"]
        assert config.items() >= kept.items()
    options = server.api("GET", "sys/mounts/skyflow/risk")[1]["data"]["options"]
    assert (options["owner"], options["adopted"]) == ("risk", "true")
