"""The dry run: the real planner, executor and engine on a stage without sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import subprocess
import sys
import textwrap
import threading

import pytest
from support import planning as p
from support.fake_server import FakeServer
from support.keys import account

from skyflowctl.cli.commands.apply.dry_run import _result as rehearsal_json
from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.credentials.model import Credential, CredentialId
from skyflowctl.errors import ExitCode, InvalidInputError, Problem, UsageError
from skyflowctl.manifest.model import DeclaredCtx
from skyflowctl.operations.dry_run.run import dry_run, mint_dry
from skyflowctl.operations.dry_run.verify import verify_declared
from skyflowctl.secret import Secret
from skyflowctl.skyflow.token_service import TokenServiceUnreachableError
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS
from skyflowctl.vault.engine_api import EngineClient
from skyflowctl.vault.errors import TokenServiceFailedError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import Request

PATTERN = DeclaredCtx(required=True, pattern="order:*", probe="order:probe")
WHAT = p.manifest(
    p.mount("order", roles=(p.role("writer", ctx=PATTERN), p.role("reader"))),
    p.mount("pay", roles=(p.role("risk", ctx=DeclaredCtx(probe={"n": 1})),)),
)


class RealCredentials:
    """Real keys; ``missing`` mounts have a reference that leads nowhere."""

    def __init__(self, *missing: str, number: int = 1) -> None:
        self.missing = missing
        self.number = number

    def identify(self, mount, live):
        return self.resolve(mount).id

    def resolve(self, mount):
        if mount in self.missing:
            raise UnresolvedReferenceError("nothing there", why="no such file")
        who = p.identity(mount, self.number)
        made = account(clientID=who.client_id, keyID=who.key_id)
        return Credential(CredentialId(made.client_id, made.key_id), made.to_json())

    def prepare_apply(self):
        pass


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Not even loopback: whoever connects or binds fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("a dry run opened a connection")

    for name in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, name, refuse)


def applied(number: int = 1) -> FakeServer:
    """A server on which the manifest was applied with the n-th credentials."""
    from support.fake_server import FakeCredentials, FakeReplacer

    from skyflowctl.executor.run import execute
    from skyflowctl.planner.diff import make_plan

    server = FakeServer()
    live = Gateway(server).read_live_state([], "skyflow")
    plan = make_plan(WHAT, live, p.identities(WHAT, number))
    assert execute(plan, Gateway(server), FakeCredentials(number), FakeReplacer()).status == "ok"
    server.log.clear()
    return server


def tokens(result):
    return {(one.mount, one.role): one.problem for one in result.minted}


class BrokenCredential(RealCredentials):
    """The reference of ``pay`` leads to a key with two faults."""

    def resolve(self, mount):
        if mount != "pay":
            return super().resolve(mount)
        faults = ("keyID: missing", "privateKey: no RSA key")
        raise InvalidInputError.of(
            Problem("bad-key", f"the credential of pay: {one}", "as given out", "fix it", None)
            for one in faults
        )


class TestFromNothing:
    def test_everything_is_applied_and_proved(self):
        result = dry_run(WHAT, RealCredentials())
        assert result.exit_code is ExitCode.OK
        assert result.outcome.status == "ok"
        assert tokens(result) == dict.fromkeys(
            [("order", "writer"), ("order", "reader"), ("pay", "risk")]
        )
        assert all(one.expires_at.endswith("Z") for one in result.minted)
        assert [row.state for row in result.health.mounts] == ["ok", "ok"]
        assert (result.left, result.seeded, result.throw_away, result.unproved) == (
            0,
            False,
            {},
            (),
        )

    def test_a_throw_away_key_plays_what_cannot_be_resolved_and_it_is_said(self):
        result = dry_run(WHAT, RealCredentials("pay"))
        assert result.exit_code is ExitCode.OK
        assert result.throw_away == {"pay": "no such file"}
        assert len(result.minted) == 3
        assert [w.code for w in result.planned.plan.warnings] == ["credential-unresolved"]
        shown = json.dumps([c.after for a in result.planned.plan.actions for c in a.changes])
        assert "ephemeral" not in shown

    def test_what_is_wrong_with_an_invalid_key_is_said_of_its_throw_away_key(self):
        result = dry_run(WHAT, BrokenCredential())
        assert result.throw_away == {
            "pay": "the credential of pay: keyID: missing; "
            "the credential of pay: privateKey: no RSA key"
        }

    def test_a_mount_without_a_credential_is_not_proved(self):
        what = p.manifest(p.mount("order", credentials=None), p.mount("pay"))
        result = dry_run(what, RealCredentials())
        assert result.unproved == ("order",)
        assert {one.mount for one in result.minted} == {"pay"}
        assert result.exit_code is ExitCode.OK

    def test_any_named_plugin_version_is_played(self):
        result = dry_run(p.manifest(*WHAT.mounts, version="v7.0.0"), RealCredentials())
        assert (result.exit_code, result.left) == (ExitCode.OK, 0)

    def test_a_probe_that_its_own_rule_refuses_fails_the_role(self):
        rule = DeclaredCtx(required=True, pattern="order:*", probe="other:probe")
        what = p.manifest(p.mount("order", roles=(p.role("writer", ctx=rule),)))
        result = dry_run(what, RealCredentials())
        assert result.outcome.status == "partial"
        assert result.outcome.failures[0].action.path == "skyflow/order/roles/writer"
        assert result.exit_code is ExitCode.PARTIAL

    def test_two_mounts_may_share_a_service_account(self):
        class Shared(RealCredentials):
            def resolve(self, mount):
                return super().resolve("order")

        result = dry_run(WHAT, Shared())
        assert result.exit_code is ExitCode.OK
        assert len(tokens(result)) == 3

    def test_an_invalid_credential_is_no_case_for_a_stand_in(self):
        class Bad(RealCredentials):
            def identify(self, mount, live):
                raise InvalidInputError("bad key")

        with pytest.raises(InvalidInputError):
            dry_run(WHAT, Bad())


class TestFromALiveServer:
    def test_the_server_is_only_read(self):
        server = applied()
        server.roles["skyflow/order"].pop("reader")
        result = dry_run(WHAT, RealCredentials(), Gateway(server))
        assert server.writes() == []
        assert [a.path for a in result.planned.plan.actions] == ["skyflow/order/roles/reader"]
        assert result.seeded
        assert result.exit_code is ExitCode.OK
        assert result.left == 0

    def test_nothing_to_do_is_proved_too(self):
        result = dry_run(WHAT, RealCredentials(), Gateway(applied()))
        assert result.planned.plan.empty
        assert len(result.minted) == 3
        assert (result.exit_code, result.stand_ins) == (ExitCode.OK, ())

    def test_a_replacement_is_rehearsed_with_the_new_key(self):
        result = dry_run(WHAT, RealCredentials(number=2), Gateway(applied()))
        assert [a.action.value for a in result.planned.plan.actions] == ["replace_credential"] * 2
        assert result.exit_code is ExitCode.OK
        assert result.stand_ins == ("order", "pay")
        assert result.left == 0

    def test_a_mount_rotated_past_the_manifest_keeps_its_key(self):
        server = applied(2)
        for config in server.configs.values():
            config["history"] = {1: config["key_id"].replace("-2", "-1"), 2: config["key_id"]}
        result = dry_run(WHAT, RealCredentials(), Gateway(server))
        assert result.planned.plan.empty
        assert {w.code for w in result.planned.plan.warnings} == {"rotated-past"}
        assert (result.exit_code, result.left) == (ExitCode.OK, 0)
        assert result.stand_ins == ("order", "pay")

    def test_an_unresolved_reference_leaves_a_configured_mount_as_it_is(self):
        result = dry_run(WHAT, RealCredentials("pay"), Gateway(applied()))
        assert result.planned.plan.empty
        assert (result.exit_code, result.left) == (ExitCode.OK, 0)
        assert result.stand_ins == ("pay",)

    def test_a_missing_file_whose_key_another_mount_runs_on_is_played_by_that_key(self):
        server = applied()
        for name in ("client_id", "key_id"):
            server.configs["skyflow/pay"][name] = server.configs["skyflow/order"][name]
        result = dry_run(WHAT, RealCredentials("pay"), Gateway(server))
        assert (result.exit_code, result.left) == (ExitCode.OK, 0)
        assert [one.problem for one in result.minted] == [None] * 3
        assert result.stand_ins == ()

    def test_a_role_without_token_is_not_blamed_on_skyflow(self, monkeypatch):
        error = TokenServiceFailedError(
            "Skyflow's token service gave no token", why="401", fix="-", path="skyflow/pay"
        )

        def refuse(*args):
            raise error

        monkeypatch.setattr(EngineClient, "creds", refuse)
        result = dry_run(WHAT, RealCredentials(), Gateway(applied()))
        assert result.exit_code is ExitCode.UNHEALTHY
        summaries = {one.problem.summary for one in result.minted}
        assert all("the dry run's own token service" in one for one in summaries)

    def test_roles_that_nobody_declared_do_not_stop_a_replacement(self):
        server = applied()
        other = {"role_ids": ["else"], "version": 1, "tags": [], "description": ""}
        server.roles["skyflow/order"]["stranger"] = other
        result = dry_run(WHAT, RealCredentials(number=2), Gateway(server))
        assert result.exit_code is ExitCode.OK

    def test_a_mount_of_another_manifest_is_left_out_and_said(self):
        server = applied()
        server.mounts["skyflow/pay"]["options"]["manifest"] = "other"
        result = dry_run(WHAT, RealCredentials(), Gateway(server))
        assert result.exit_code is ExitCode.REFUSED
        assert [one.code for one in result.planned.plan.left_out] == ["owned-by-other"]

    def test_a_mount_that_was_cut_off_stays_so(self):
        server = applied()
        Gateway(server).transport.send(Request("DELETE", "skyflow/pay/config", idempotent=True))
        result = dry_run(WHAT, RealCredentials(), Gateway(server))
        assert result.planned.plan.empty
        assert (result.exit_code, result.left, result.unproved) == (ExitCode.PARTIAL, 0, ("pay",))
        again = dry_run(WHAT, RealCredentials(), Gateway(server), p.replacing("pay"))
        assert again.exit_code is ExitCode.REFUSED
        assert [one.code for one in again.planned.plan.left_out] == ["revoked-key"]
        key = p.identity("pay").key_id
        again = dry_run(WHAT, RealCredentials(), Gateway(server), p.replacing(allow=(key,)))
        assert (again.exit_code, again.left, again.unproved) == (ExitCode.OK, 0, ())
        assert ("pay", "risk") in tokens(again)

    def test_an_upgrade_is_rehearsed(self):
        server = applied()
        for mount in server.mounts.values():
            mount |= {"plugin_version": "v1.0.0", "running_plugin_version": "v1.0.0"}
        what = p.manifest(*WHAT.mounts, version="v1.9.0")
        result = dry_run(what, RealCredentials(), Gateway(server))
        assert [a.action.value for a in result.planned.plan.actions] == ["plugin_upgrade"] * 2
        assert (result.exit_code, result.left) == (ExitCode.OK, 0)


class TestMint:
    def test_a_token_with_its_ctx(self):
        made = mint_dry(WHAT, "order", "writer", "order:ORD-42", RealCredentials())
        assert made.throw_away == ""
        assert made.creds.key_id == "key-order-1"
        assert made.creds.ttl > 0
        assert b"order:ORD-42" in payload(made.creds.access_token)

    def test_an_object_as_ctx(self):
        made = mint_dry(WHAT, "pay", "risk", {"purpose": "x"}, RealCredentials())
        assert json.loads(payload(made.creds.access_token))["ctx"] == {"purpose": "x"}

    def test_the_engines_own_rules_hold(self):
        with pytest.raises(UsageError) as caught:
            mint_dry(WHAT, "order", "writer", "wrong", RealCredentials())
        assert caught.value.problems[0].code == "bad-ctx"
        assert "pattern" in caught.value.problems[0].why
        assert "wrong" not in repr(caught.value.problems)
        with pytest.raises(UsageError) as caught:
            mint_dry(WHAT, "order", "nobody", None, RealCredentials())
        assert caught.value.problems[0].code == "no-such-role"

    def test_a_throw_away_key_is_said(self):
        made = mint_dry(WHAT, "order", "reader", None, RealCredentials("order"))
        assert made.throw_away == "no such file"

    def test_only_the_one_credential_is_resolved(self):
        mint_dry(WHAT, "pay", "risk", None, RealCredentials("order"))

    def test_mounts_that_cannot_mint_are_usage_errors(self):
        with pytest.raises(UsageError, match="no mount 'nobody'"):
            mint_dry(WHAT, "nobody", "writer", None, RealCredentials())
        bare = p.manifest(p.mount("order", credentials=None))
        with pytest.raises(UsageError, match="no credential"):
            mint_dry(bare, "order", "writer", None, RealCredentials())


def payload(token: Secret) -> bytes:
    from base64 import urlsafe_b64decode

    part = token.reveal().split(".")[1]
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.mark.needs("unshare")
def test_it_works_in_an_empty_network_namespace():
    """Loopback is down in there, so that even a local socket would fail."""
    script = textwrap.dedent(
        """
        from skyflowctl.operations.dry_run.run import dry_run
        from skyflowctl.credentials.errors import UnresolvedReferenceError
        from support import planning as p

        class Nothing:
            def identify(self, mount, live): raise UnresolvedReferenceError("none")
            resolve = lambda self, mount: self.identify(mount, None)

        result = dry_run(p.manifest(), Nothing())
        print(int(result.exit_code), len(result.minted), result.health.healthy)
        """
    )
    done = subprocess.run(
        ["unshare", "--map-root-user", "--net", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout == "0 1 True\n", done.stderr


class MeetingService:
    """Answers an exchange of one mount only while one of the other mount waits as well."""

    def __init__(self, both: threading.Barrier) -> None:
        self.both = both

    async def exchange(self, token_uri, assertion, scope, *, deadline):
        await asyncio.to_thread(self.both.wait)
        raise TokenServiceUnreachableError("no answer")

    async def aclose(self):
        pass


def test_verify_tries_mounts_side_by_side_and_its_fix_is_about_the_dry_run():
    what = p.manifest(*(p.mount(name, roles=(p.role("a"),)) for name in ("order", "pay")))
    done = dry_run(what, RealCredentials())
    both = threading.Barrier(2, timeout=20)
    tried = verify_declared(
        done.planned,
        None,
        RealCredentials(),
        SKYFLOW_HOSTS,
        new_service=lambda: MeetingService(both),
        parallelism=2,
    )
    assert [(one.verified.mount, one.verified.result) for one in tried] == [
        ("order", "unproven"),
        ("pay", "unproven"),
    ]
    problem = tried[0].verified.problem
    assert problem.summary == "whether skyflow/order/roles/a mints could not be verified"
    assert "skyflowctl health" not in problem.fix  # the mount is not there yet
    assert "--require-verified" in problem.fix


class NotAllowed(RealCredentials):
    """Its credentials name a token service that may not be asked from here."""

    def resolve(self, mount):
        raise InvalidInputError("the tokenURI is not allowed", code="host-not-allowed")


def verified(credentials, *, require: bool = False):
    """A dry run on a live server, and what verifying it then told."""
    server = Gateway(applied())
    done = dry_run(WHAT, RealCredentials(), server)
    tried = verify_declared(
        done.planned,
        server,
        credentials,
        SKYFLOW_HOSTS,
        new_service=Unreachable,
        parallelism=1,
    )
    return dataclasses.replace(done, verified=tried, require_verified=require)


class Unreachable:
    """A token service that is down."""

    async def exchange(self, token_uri, assertion, scope, *, deadline):
        raise TokenServiceUnreachableError("no answer")

    async def aclose(self):
        pass


def test_no_connection_is_named_for_an_error_from_before_it():
    done = verified(NotAllowed())
    assert {one.asked for one in done.verified} == {""}
    assert rehearsal_json(done, "https://bao.example").data["dry_run"]["connections"] == [
        {"to": "https://bao.example", "for": "the live state"}
    ]


def test_with_require_verified_the_reasons_are_errors():
    result = rehearsal_json(verified(NotAllowed(), require=True), "https://bao.example")
    assert (result.exit_code, result.status) == (ExitCode.PARTIAL, "partial")
    assert len(result.problems) == 3
    assert not rehearsal_json(verified(NotAllowed()), "https://bao.example").problems
