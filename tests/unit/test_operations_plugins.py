"""``plugin register`` and ``list`` against a catalog that behaves as measured."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from skyflowctl.errors import InvalidInput, Refused, Unhealthy, UsageError
from skyflowctl.operations.plugins import (
    PROBE_VERSION,
    Registration,
    checked_pairs,
    file_digest,
    list_plugins,
    plugin_arguments,
    register_plugin,
)
from skyflowctl.plugin.settings import ArgumentError, parse_arguments
from skyflowctl.vault.answers import CatalogEntry
from skyflowctl.vault.failures import BadRequest, OutcomeUnknown, failure

WANTED = Registration("skyflow", "v1.0.0", "skyflow", "ab" * 32, ("--shared",), ("A=b",))

BARE = replace(WANTED, env=())


class Catalog:
    """Starts the plugin to compare versions; stores what it cannot start without a word."""

    def __init__(self, reports: str | None) -> None:
        self.reports = reports
        self.entries: dict[str, CatalogEntry] = {}

    def register(self, name, *, sha256, command, version, args=(), env=()):
        if self.reports is not None and version != self.reports:
            said = f"plugin reported version ({self.reports}) did not match requested ({version})"
            raise BadRequest("no", messages=(said,))
        self.entries[version] = CatalogEntry(name, version, False, sha256, command, tuple(args))

    def read(self, name, version):
        return self.entries.get(version)

    def delete(self, name, version):
        return self.entries.pop(version, None) is not None

    def list(self):
        return tuple(self.entries.values())


def gateway(reports="v1.0.0", mounts=None):
    return SimpleNamespace(
        catalog=Catalog(reports), list_mounts=lambda: mounts or {}, transport=None
    )


def test_a_plugin_that_runs_is_registered_once():
    server = gateway()
    assert {one.field for one in register_plugin(server, BARE)} == {"sha256", "command", "args"}
    assert register_plugin(server, BARE) == ()
    assert list(server.catalog.entries) == ["v1.0.0"]


def test_another_digest_under_the_same_version_is_a_change():
    server = gateway()
    register_plugin(server, WANTED)
    other = Registration("skyflow", "v1.0.0", "skyflow", "cd" * 32)
    changes = {one.field: (one.before, one.after) for one in register_plugin(server, other)}
    assert changes == {"sha256": ("ab" * 32, "cd" * 32), "args": ("--shared", "")}
    assert server.catalog.entries["v1.0.0"].sha256 == "cd" * 32


def test_an_environment_is_never_the_same():
    server = gateway()
    register_plugin(server, WANTED)
    again = register_plugin(server, replace(WANTED, env=("A=c", "B=d")))
    assert [(one.field, one.after) for one in again] == [("env", "A B")]


def refuse(changes, replaced):
    raise Refused("no", why="the test says so", fix="none")


@pytest.mark.parametrize("args", [(), ("--shared", "--allow-host=h:1"), ("--only-host=h:1",)])
def test_other_arguments_are_asked_about_before_anything_is_written(args):
    server = gateway()
    register_plugin(server, BARE, refuse)
    before = dict(server.catalog.entries)
    with pytest.raises(Refused):
        register_plugin(server, replace(BARE, args=args), refuse)
    assert server.catalog.entries == before
    asked = []
    register_plugin(
        server, replace(BARE, args=args), lambda changes, _replaced: asked.append(changes)
    )
    assert [(one.field, one.before, one.after) for one in asked[0]] == [
        ("args", "--shared", " ".join(args))
    ]
    assert server.catalog.entries["v1.0.0"].args == args


def test_a_new_digest_alone_is_no_question():
    server = gateway()
    register_plugin(server, BARE)
    register_plugin(server, replace(BARE, sha256="cd" * 32), refuse)
    assert server.catalog.entries["v1.0.0"].sha256 == "cd" * 32


def test_a_plugin_that_does_not_start_leaves_no_entry():
    server = gateway(reports=None)
    with pytest.raises(Unhealthy) as refused:
        register_plugin(server, WANTED)
    assert refused.value.problems[0].code == "plugin-does-not-start"
    assert server.catalog.entries == {}


def test_a_plugin_of_another_version_is_refused_with_its_own():
    server = gateway(reports="v2.0.0")
    with pytest.raises(InvalidInput) as refused:
        register_plugin(server, WANTED)
    assert "v2.0.0" in refused.value.problems[0].why
    assert server.catalog.entries == {}


def test_another_refusal_is_passed_on():
    server = gateway()

    def refuse(*_, **__):
        raise BadRequest("no", messages=("missing SHA-256 value",))

    server.catalog.register = refuse
    with pytest.raises(BadRequest):
        register_plugin(server, WANTED)


def test_the_list_has_catalog_and_running_of_that_name_alone():
    def mount(kind):
        return SimpleNamespace(type=kind, running_plugin_version="v1.0.0", running_sha256="ab")

    server = gateway(
        mounts={"skyflow/b": mount("skyflow"), "kv": mount("kv"), "skyflow/a": mount("skyflow")}
    )
    register_plugin(server, WANTED)
    found = list_plugins(server, "skyflow")
    assert [one.path for one in found.mounts] == ["skyflow/a", "skyflow/b"]
    assert [one.version for one in found.entries] == ["v1.0.0"]
    assert list_plugins(server, "other").entries == ()


def test_arguments_are_those_that_the_plugin_reads():
    made = plugin_arguments(
        shared=True, allow_hosts=["127.0.0.1:8443", "h:1"], credentials_directory="/etc/c"
    )
    settings = parse_arguments(made)
    assert settings.shared
    assert settings.credentials_directory == "/etc/c"
    assert {"127.0.0.1:8443", "h:1"} <= settings.allow_hosts
    assert plugin_arguments(shared=False, allow_hosts=[], credentials_directory=None) == ()


HOSTS = ["h", "h:", ":1", "h:x", "h:0", "h:65536", "https://h:1", "a b:1", "h:1/x"]


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_the_plugin_would_refuse_is_refused_here(host):
    for named in ({"allow_hosts": [host]}, {"allow_hosts": [], "only_hosts": [host]}):
        with pytest.raises(UsageError) as refused:
            plugin_arguments(shared=False, credentials_directory=None, **named)
        flag = "--only-host" if "only_hosts" in named else "--allow-host"
        assert flag in refused.value.problems[0].fix
        with pytest.raises(ArgumentError):
            parse_arguments([f"{flag}={host}"])


def test_only_hosts_reach_the_plugin_as_they_compare():
    made = plugin_arguments(
        shared=False, allow_hosts=[], only_hosts=["LOCALHOST:1"], credentials_directory=None
    )
    assert parse_arguments(made).only_hosts == {"localhost:1"}


def test_a_relative_directory_is_refused():
    with pytest.raises(UsageError):
        plugin_arguments(shared=False, allow_hosts=[], credentials_directory="etc")


def test_pairs_are_checked():
    assert checked_pairs(["A=b", "C="]) == ("A=b", "C=")
    for bad in ("A", "=b", "A B=c"):
        with pytest.raises(UsageError):
            checked_pairs([bad])


@pytest.mark.parametrize("name", ["API_KEY", "BAO_TOKEN", "db_password", "PRIVATE", "MY_CREDS"])
def test_a_pair_that_looks_like_a_secret_is_refused_and_not_repeated(name):
    with pytest.raises(UsageError) as refused:
        checked_pairs(["SSL_CERT_FILE=/etc/ca.pem", f"{name}=hunter2"])
    problem = refused.value.problems[0]
    assert problem.code == "secret-env"
    assert "hunter2" not in repr(problem)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="skyflow"):
        file_digest(tmp_path / "skyflow")


def test_the_probe_version_is_one_that_a_catalog_takes():
    assert PROBE_VERSION.startswith("v0.0.0-")


@pytest.mark.parametrize(
    ("error", "kind", "code", "words"),
    [
        (
            failure(
                500,
                ("error while validating the command path: lstat /p/skyflow: no such file",),
                method="POST",
                path="x",
            ),
            UsageError,
            "not-in-plugin-directory",
            "plugin_directory",
        ),
        (
            OutcomeUnknown("no answer", why="none in time"),
            Unhealthy,
            "plugin-does-not-answer",
            "busy",
        ),
    ],
)
def test_a_file_elsewhere_and_a_plugin_that_hangs_are_told_apart(
    monkeypatch, error, kind, code, words
):
    server = gateway()

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(server.catalog, "register", refuse)
    with pytest.raises(kind) as caught:
        register_plugin(server, BARE)
    (problem,) = caught.value.problems
    assert problem.code == code
    assert words in problem.fix
