"""plan and apply as operations: what they ask of a server, and what they answer."""

from __future__ import annotations

import dataclasses
import json

import pytest
from support import planning as p
from support.fake_server import FakeCredentials, FakeReplacer, FakeServer
from support.keys import credential

from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.credentials.model import CredentialId
from skyflowctl.credentials.sources import ManifestSource
from skyflowctl.errors import ExitCode, InvalidInputError, RefusedError, UsageError, Where
from skyflowctl.manifest.model import Reference
from skyflowctl.operations.apply import apply
from skyflowctl.operations.plan import plan
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.transport import Request

TWO = p.manifest(p.mount("order"), p.mount("pay"))


@pytest.fixture
def server():
    return FakeServer()


def run(server, what, source=None, **more):
    source = source or FakeCredentials()
    gateway = Gateway(server)
    return apply(plan(what, gateway, source, **more), gateway, source, FakeReplacer())


class TestPlan:
    def test_it_costs_two_requests_and_two_for_each_mount(self, server):
        run(server, TWO)
        before = server.requests_made
        assert plan(TWO, Gateway(server), FakeCredentials()).plan.empty
        assert server.requests_made - before == 2 + 2 * 2

    def test_a_history_is_one_request_more_where_the_key_differs(self, server):
        run(server, TWO)
        before = server.requests_made
        made = plan(TWO, Gateway(server), FakeCredentials(2))
        assert server.requests_made - before == 2 + 2 * 2 + 2
        assert [a.action.value for a in made.plan.actions] == ["replace_credential"] * 2

    @pytest.mark.parametrize("rights", [["deny"], ["read", "update"], ["sudo", "create"]])
    def test_headers_that_this_login_may_not_write_are_a_warning(self, server, rights):
        server.rights = rights
        made = plan(TWO, Gateway(server), FakeCredentials()).plan
        assert "audited_header" not in {action.kind.value for action in made.actions}
        assert [warning.code for warning in made.warnings] == ["audited-headers-unwritable"]
        assert run(server, TWO).exit_code == 0

    def test_a_version_that_is_not_in_the_catalog_is_an_error_and_no_upgrade(self, server):
        run(server, p.manifest(*TWO.mounts, version="v1.0.0"))
        server.unregistered = {"v9.9.9"}
        with pytest.raises(InvalidInputError) as caught:
            plan(p.manifest(*TWO.mounts, version="v9.9.9"), Gateway(server), FakeCredentials())
        (problem,) = caught.value.problems
        assert (problem.code, caught.value.exit_code) == ("plugin-not-registered", 65)
        assert problem.fix.startswith("'skyflowctl plugin register ")
        server.unregistered = set()
        made = plan(p.manifest(*TWO.mounts, version="v9.9.9"), Gateway(server), FakeCredentials())
        assert {a.action.value for a in made.plan.actions} == {"plugin_upgrade"}

    def test_a_new_mount_of_a_type_that_the_catalog_lacks_is_an_error(self, server, monkeypatch):
        names = {"secret": ["kv", "other"]}
        monkeypatch.setattr("skyflowctl.vault.catalog.Catalog.names", lambda _: names)
        with pytest.raises(InvalidInputError) as caught:
            plan(TWO, Gateway(server), FakeCredentials())
        (problem,) = caught.value.problems
        assert (problem.code, caught.value.exit_code) == ("plugin-not-registered", 65)
        assert "'skyflowctl plugin register " in problem.fix
        names["secret"].append(TWO.plugin.name)
        assert plan(TWO, Gateway(server), FakeCredentials()).plan.actions

    def test_it_writes_nothing(self, server):
        plan(TWO, Gateway(server), FakeCredentials())
        assert server.writes() == []

    def test_a_mount_that_was_rotated_past_the_manifest_stays(self, server):
        run(server, p.manifest())
        run(server, p.manifest(), FakeCredentials(2))
        made = plan(p.manifest(), Gateway(server), FakeCredentials(1))
        assert made.plan.empty
        assert [w.code for w in made.plan.warnings] == ["rotated-past"]

    def test_a_cut_off_is_not_undone(self, server):
        run(server, p.manifest())
        Gateway(server).transport.send(Request("DELETE", "skyflow/order/config", idempotent=True))
        before = server.requests_made
        made = plan(p.manifest(), Gateway(server), FakeCredentials())
        assert server.requests_made - before == 2 + 2 + 1
        assert made.plan.empty
        assert [one.kind for one in made.plan.drift] == ["revoked"]
        newer = plan(p.manifest(), Gateway(server), FakeCredentials(2))
        assert newer.plan.empty
        assert [one.kind for one in newer.plan.drift] == ["revoked"]

    def test_an_engine_without_history_needs_to_be_told(self, server):
        server.has_history = False
        run(server, p.manifest())
        source, gateway = FakeCredentials(2), Gateway(server)
        assert plan(p.manifest(), gateway, source).plan.empty
        told = plan(p.manifest(), gateway, source, p.replacing("order"))
        assert [a.action.value for a in told.plan.actions] == ["replace_credential"]

    def test_replace_credential_must_name_a_mount(self, server):
        with pytest.raises(UsageError, match="nobody"):
            plan(TWO, Gateway(server), FakeCredentials(), p.replacing("nobody"))
        assert server.requests_made == 0

    def test_an_unresolved_reference_is_a_warning_with_its_cause(self, server):
        run(server, TWO)
        made = plan(TWO, Gateway(server), FakeCredentials(missing=frozenset({"pay"})))
        assert made.plan.empty
        assert [(w.code, w.why) for w in made.plan.warnings] == [
            ("credential-unresolved", "no such file")
        ]

    def test_invalid_credentials_are_reported_all_at_once(self, server):
        class Bad(FakeCredentials):
            def identify(self, mount, live):
                raise InvalidInputError(f"{mount} is bad")

        with pytest.raises(InvalidInputError) as caught:
            plan(TWO, Gateway(server), Bad())
        assert [one.summary for one in caught.value.problems] == ["order is bad", "pay is bad"]


class TestApply:
    def test_the_second_one_has_nothing_to_do(self, server):
        assert run(server, TWO).exit_code is ExitCode.OK
        again = run(server, TWO)
        assert (again.status, again.exit_code, again.outcome.results) == ("ok", ExitCode.OK, ())

    def test_a_mount_that_may_not_be_touched_refuses_the_whole(self, server):
        run(server, TWO)
        server.mounts["skyflow/pay"]["options"]["manifest"] = "other"
        server.roles["skyflow/order"]["writer"]["description"] = "x"
        server.log.clear()
        with pytest.raises(RefusedError) as caught:
            run(server, TWO)
        assert [one.code for one in caught.value.problems] == ["owned-by-other"]
        assert server.writes() == []

    def test_other_warnings_do_not_make_it_partial(self, server):
        run(server, TWO)
        assert run(server, p.manifest(p.mount("order"))).status == "ok"

    def test_an_unresolved_reference_of_a_new_mount_is_an_error(self, server):
        result = run(server, TWO, FakeCredentials(missing=frozenset({"pay"})))
        assert result.exit_code is ExitCode.PARTIAL
        assert [one.code for one in result.problems] == ["reference-unreadable"]
        assert run(server, TWO).exit_code is ExitCode.OK


class TestManifestSource:
    @pytest.fixture
    def file(self, tmp_path):
        return tmp_path / "order.json"

    def source(self, file):
        where = Where("mounts.yaml", 7, 3)
        reference = Reference("file", (str(file),), "file: order.json", where)
        return ManifestSource(p.manifest(p.mount(credentials=reference)))

    def write(self, file, **changes):
        content = credential(**changes)
        file.write_text(json.dumps(content))
        return CredentialId(content["clientID"], content["keyID"])

    def test_identity_and_normalised_credential(self, file):
        identity = self.write(file)
        source = self.source(file)
        assert source.identify("order", None) == identity
        found = source.resolve("order")
        assert found.id == identity
        assert set(json.loads(found.json.reveal())) >= {"clientID", "keyID", "privateKey"}
        assert "keyAlgorithm" not in json.loads(found.json.reveal())

    def test_it_is_read_anew_each_time(self, file):
        first, source = self.write(file), self.source(file)
        assert source.identify("order", None) == first
        second = self.write(file)
        assert source.resolve("order").id == second != first

    def test_the_live_credential_is_not_checked_again(self, file, monkeypatch):
        identity = self.write(file)
        source = self.source(file)
        monkeypatch.setattr(
            "skyflowctl.credentials.lint.parse_service_account",
            lambda *_, **__: pytest.fail("parsed in full"),
        )
        assert source.identify("order", identity) == identity

    def test_another_one_is_checked_in_full(self, file):
        identity = self.write(file, privateKey="no key")
        with pytest.raises(InvalidInputError) as caught:
            self.source(file).identify("order", dataclasses.replace(identity, key_id="other"))
        (problem,) = caught.value.problems
        assert (problem.where.line, problem.where.column) == (7, 3)
        assert "order" in problem.summary

    def test_a_missing_file_is_unresolved_at_its_place(self, file):
        with pytest.raises(UnresolvedReferenceError) as caught:
            self.source(file).resolve("order")
        assert caught.value.problems[0].where.line == 7
        assert "file: order.json" in caught.value.problems[0].summary

    def test_no_reference_is_unresolved(self):
        source = ManifestSource(p.manifest(p.mount(credentials=None)))
        with pytest.raises(UnresolvedReferenceError):
            source.resolve("order")

    def test_no_part_of_a_bad_credential_is_repeated(self, file):
        file.write_text('{"privateKey": "hidden-thing", "clientID": 5}')
        with pytest.raises(InvalidInputError) as caught:
            self.source(file).identify("order", None)
        assert "hidden-thing" not in repr(caught.value.problems)
