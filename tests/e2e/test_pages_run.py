"""Pages that are followed from their first command to their last, each on a server of its own."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.bao import BaoServer, running_bao
from support.cluster import running_cluster, wait_until
from support.emulator import running_emulator
from support.how_to import HOW_TO, Block, blocks, plain, typed
from support.keys import credential_text
from support.plugin import register_skyflow
from support.site import Site
from support.stack import Stack, clean_environ, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.real_server, pytest.mark.timeout(300)]

MOST_COMMANDS = 9
QUERIES = ("", "?standbyok=true")


MANIFEST = """\
version: 1
manifest: shop
mounts:
  payment:
    credentials: {file: payment.json}
    roles: {engine: {role_ids: [role-engine]}}
engines:
  secret: {type: kv, secrets: {backend: {user: {value: app}}}}
"""


def run(stack: Stack, block: Block, **known: str) -> str:
    """Run one block of a page, and compare what it prints with what the page shows."""
    done = typed(stack, block.script, **known)
    assert done.returncode == block.code, (block.script, done.stdout)
    printed = [plain(line) for line in done.stdout.splitlines()]
    for line in filter(None, map(plain, block.shown)):
        assert any(line in one for one in printed), (line, done.stdout)
    return done.stdout


def follow(stack: Stack, page: str) -> None:
    """Run a page's blocks in order; what one prints as a handover, the next ones know."""
    known: dict[str, str] = {}
    for block in blocks(page):
        if known:  # on the application's host, whose shell has no operator's token
            block = replace(block, script=f"unset BAO_TOKEN VAULT_TOKEN\n{block.script}")
        printed = run(stack, block, **known)
        for name, value in re.findall(r"^(role_id|wrap_token) +(\S+)$", printed, re.MULTILINE):
            known[name.upper()] = value


def commands(page: str) -> list[str]:
    """What a page has people type: one entry for each command, a here-document is one."""
    script = re.sub(
        r"<<'END'\n.*?^END$",
        "",
        "".join(b.script for b in blocks(page)),
        flags=re.MULTILINE | re.DOTALL,
    )
    return [line for line in script.splitlines() if line]


def test_a_product_line_is_onboarded_from_nothing() -> None:
    with running_stack(manifest=None) as stack:
        downloads = stack.folder / "Downloads"
        downloads.mkdir()
        (downloads / "invoicing.json").write_text(credential_text())
        follow(stack, "onboard-product-line")
        assert "No changes." in stack.cli("plan", exported=True).stdout


def test_that_takes_fewer_than_ten_commands() -> None:
    typed_in = commands("onboard-product-line")
    assert 1 < len(typed_in) <= MOST_COMMANDS, typed_in
    assert len(typed_in) == len(
        re.findall(r"^(?:skyflowctl|bao|export|cat|install) ?", "\n".join(typed_in), re.MULTILINE)
    )
    assert "nine commands" in (HOW_TO / "onboard-product-line.md").read_text()


def served(server: BaoServer, status: int = 200) -> bool:
    return server.api("GET", "skyflow/payment/config")[0] == status


@pytest.fixture(scope="module")
def seal_key() -> str:
    return secrets.token_hex(32)


@pytest.fixture
def site(tmp_path: Path, seal_key: str) -> Iterator[Site]:
    """A region: a server on disk with a mount, and a secret that has two versions."""
    environ = {"BAO_UNSEAL_KEY": seal_key}
    with running_emulator() as emulator, running_bao(raft=True, environ=environ) as server:
        env = [f"SSL_CERT_FILE={emulator.ca}"]
        register_skyflow(server, args=["--allow-host", emulator.host], env=env)
        site = Site(server, emulator, tmp_path)
        site.write("payment.json", emulator.new_account("role-engine"))
        site.write("mounts.yaml", MANIFEST)
        site.cli("apply", "-y")
        server.bao("kv", "patch", "-mount=secret", "backend", "user=changed")
        yield site


def shell(site: Site, server: BaoServer) -> Stack:
    """What an operator of a region types in: a shell that names its server."""
    names = ("BAO_ADDR", "BAO_TOKEN", "BAO_CACERT")
    environ = clean_environ() | {"HOME": str(site.folder)}
    more = {"SSL_CERT_FILE": str(site.emulator.ca), "SKYFLOWCTL_ALLOW_HOSTS": site.emulator.host}
    return Stack(site.folder, environ, {name: server.env()[name] for name in names} | more)


def test_a_snapshot_is_saved_and_restored_as_the_page_says(site: Site) -> None:
    save, restore, *check = blocks("backup-and-restore")
    operator = shell(site, site.server)
    run(operator, save)
    site.server.api("DELETE", "sys/mounts/skyflow/payment")
    assert not served(site.server)
    run(operator, restore)
    wait_until(lambda: served(site.server), "the snapshot is not there")
    assert check
    for block in check:
        run(operator, block)


def second_region(site: Site, server: BaoServer) -> None:
    """Give a server the launchers and the audit stanzas of the site's server."""
    shutil.copytree(site.server.plugin_dir, server.plugin_dir, dirs_exist_ok=True)
    server.stop()
    config = server.folder / "bao.hcl"
    text = config.read_text().replace(str(server.audit_log), str(site.server.audit_log))
    config.write_text(text)
    shutil.rmtree(server.folder / "data")
    (server.folder / "data").mkdir()
    server.restart()


def test_a_second_region_takes_over_as_the_page_says(site: Site, seal_key: str) -> None:
    save = next(blocks("backup-and-restore"))
    restore, check, back = blocks("disaster-recovery")
    run(shell(site, site.server), save)
    with running_bao(raft=True, environ={"BAO_UNSEAL_KEY": seal_key}) as server:
        second_region(site, server)
        site.server.stop()
        run(shell(site, server), restore)
        own, server.token = server.token, site.server.token
        wait_until(lambda: served(server), "the snapshot is not there")
        run(shell(site, server), check)
        run(shell(site, server), back)
        assert server.api("GET", "secret/data/backend")[1]["data"]["data"] == {"user": "app"}
        server.token = own
        assert served(server, 403)


def test_a_server_has_no_replication_between_clusters() -> None:
    with running_bao() as server:
        assert server.api("PUT", "sys/replication/dr/primary/enable", {})[0] == 404


def test_a_load_balancer_is_answered_as_the_page_says() -> None:
    page = (HOW_TO / "disaster-recovery.md").read_text()
    table = re.findall(r"^\| (active|standby|sealed) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    said = {state: (int(plainly), int(any_node)) for state, plainly, any_node in table}
    with running_cluster(voting=False) as cluster:
        leader, standby, sealed = cluster.leader(), *cluster.standbys()
        assert cluster.call(sealed, "PUT", "sys/seal")[0] == 204
        for state, node in (("active", leader), ("standby", standby), ("sealed", sealed)):
            answers = [cluster.call(node, "GET", f"sys/health{query}")[0] for query in QUERIES]
            assert tuple(answers) == said[state], state
        policy = {"policy": 'path "x" { capabilities = ["read"] }'}
        assert cluster.call(standby, "PUT", "sys/policies/acl/x", policy)[0] == 204
