"""``plugin register`` and ``list`` against a catalog that behaves as measured."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from support.transports import FakeTransport

from skyflowctl.errors import (
    InvalidInputError,
    PartlyDoneError,
    RefusedError,
    UnhealthyError,
    UsageError,
)
from skyflowctl.operations.list_plugins import list_plugins, plan_prune, reload_mounts
from skyflowctl.operations.plugins import (
    PROBE_VERSION,
    LostArguments,
    Registration,
    file_digest,
    register_plugin,
)
from skyflowctl.plugin.arguments import (
    checked_pairs,
    names_not_passed,
    plugin_arguments,
    takes_note,
)
from skyflowctl.plugin.build import _MARK, launcher_version
from skyflowctl.plugin.settings import ArgumentError, parse_arguments
from skyflowctl.vault.errors import BadRequestError, OutcomeUnknownError
from skyflowctl.vault.failed_answers import error_for
from skyflowctl.vault.parked import PendingError
from skyflowctl.vault.responses import CatalogEntry

NONE = "--env-names="
ARGS = ("--shared", f"{NONE}A")
WANTED = Registration("skyflow", "v1.0.0", "skyflow", "ab" * 32, ARGS, ("A=b",))

BARE = replace(WANTED, env=(), args=("--shared", NONE))


class Catalog:
    """Starts the plugin to compare versions; stores what it cannot start without a word."""

    def __init__(self, reports: str | None) -> None:
        self.reports = reports
        self.entries: dict[str, CatalogEntry] = {}

    def register(self, name, *, sha256, command, version, args=(), env=()):
        if self.reports is not None and version != self.reports:
            said = f"plugin reported version ({self.reports}) did not match requested ({version})"
            raise BadRequestError("no", messages=(said,))
        self.entries[version] = CatalogEntry(name, version, False, sha256, command, tuple(args))

    def read(self, name, version):
        return self.entries.get(version)

    def delete(self, name, version):
        return self.entries.pop(version, None) is not None

    def list(self):
        return tuple(self.entries.values())


def gateway(reports="v1.0.0", mounts=None):
    sys = SimpleNamespace(catalog=Catalog(reports), mounts=lambda: mounts or {})
    return SimpleNamespace(sys=sys, transport=FakeTransport())


def test_a_plugin_that_runs_is_registered_once():
    server = gateway()
    assert {one.field for one in register_plugin(server, BARE)} == {"sha256", "command", "args"}
    assert register_plugin(server, BARE) == ()
    assert list(server.sys.catalog.entries) == ["v1.0.0"]


def test_another_digest_under_the_same_version_is_a_change():
    server = gateway()
    register_plugin(server, WANTED)
    other = Registration("skyflow", "v1.0.0", "skyflow", "cd" * 32)
    changes = {one.field: (one.before, one.after) for one in register_plugin(server, other)}
    env = ("A (values unknown)", "")
    assert changes == {"sha256": ("ab" * 32, "cd" * 32), "args": ("--shared", ""), "env": env}
    assert server.sys.catalog.entries["v1.0.0"].sha256 == "cd" * 32


def test_an_environment_is_never_the_same():
    server = gateway()
    register_plugin(server, WANTED)
    again = register_plugin(server, replace(WANTED, env=("A=c", "B=d")))
    assert [(one.field, one.after) for one in again] == [("env", "A B")]
    same = register_plugin(server, WANTED, lambda question: pytest.fail(str(question)))
    assert [(one.before, one.after) for one in same] == [("A (values unknown)", "A")]


@pytest.mark.parametrize(
    ("registered", "given", "before"),
    [
        (("--shared", f"{NONE}A"), (), "A (values unknown)"),
        (("--shared", f"{NONE}A,B"), ("A=b",), "A B (values unknown)"),
        (("--shared",), (), "unknown"),
        (("--shared",), ("A=b",), "unknown"),
    ],
)
def test_c2_an_environment_that_may_get_lost_is_asked_about(registered, given, before):
    server = gateway()
    register_plugin(server, replace(BARE, args=registered))
    wanted = replace(BARE, args=("--shared", NONE + ("A" if given else "")), env=given)
    with pytest.raises(RefusedError):
        register_plugin(server, wanted, refuse)
    assert server.sys.catalog.entries["v1.0.0"].args == registered
    asked = []
    made = register_plugin(server, wanted, asked.append)
    assert made == asked[0].changes
    (change,) = made
    assert (change.field, change.before) == ("env", before)


def test_c2_a_mount_that_would_lose_its_environment_by_an_upgrade_is_named():
    old, args = "v0.9.0", ("--shared", f"{NONE}A,B")
    server = gateway(mounts={"m/b": live("m/b", version=old)})
    server.sys.catalog.entries[old] = CatalogEntry("skyflow", old, False, "cd" * 32, "f", args)
    asked = []
    register_plugin(server, WANTED, asked.append)
    assert asked[0].lost == (LostArguments(old, args, (f"{NONE}B",), ("m/b",)),)
    assert asked[0].unknown == ()


def test_c2_what_an_entry_was_registered_with_and_nobody_can_read_is_said():
    server = gateway(mounts={"m/b": live("m/b", version="v0.9.0")})
    for version in ("v0.9.0", "v1.0.0"):
        server.sys.catalog.entries[version] = CatalogEntry(
            "skyflow", version, False, "", "f", file_missing=version == "v1.0.0"
        )
    asked = []
    changes = register_plugin(server, BARE, asked.append)
    assert [(one.field, one.before) for one in changes if one.before == "unknown"] == [
        ("args", "unknown"),
        ("env", "unknown"),
    ]
    assert asked[0].unknown == ("v1.0.0", "v0.9.0")


def test_c2_only_a_launcher_that_takes_the_note_gets_one(tmp_path):
    ours, other = tmp_path / "ours", tmp_path / "other"
    ours.write_text(f'#!/bin/sh\n# {_MARK}\nENV_NAMES = "{NONE}"\n')
    other.write_text(f"#!/bin/sh\n# {_MARK}\n")
    assert (takes_note(ours), takes_note(other)) == (True, False)


def refuse(question):
    raise RefusedError("no", why="the test says so", fix="none")


@pytest.mark.parametrize("args", [(), ("--shared", "--allow-host=h:1"), ("--only-host=h:1",)])
def test_other_arguments_are_asked_about_before_anything_is_written(args):
    server = gateway()
    register_plugin(server, BARE, refuse)
    before = dict(server.sys.catalog.entries)
    with pytest.raises(RefusedError):
        register_plugin(server, replace(BARE, args=args), refuse)
    assert server.sys.catalog.entries == before
    asked = []
    register_plugin(
        server, replace(BARE, args=args), lambda question: asked.append(question.changes)
    )
    assert [(one.field, one.before, one.after) for one in asked[0]] == [
        ("args", "--shared", " ".join(args))
    ]
    assert server.sys.catalog.entries["v1.0.0"].args == args


def test_an_option_and_its_value_are_one_argument_in_either_form():
    old, args = "v0.9.0", ("--only-host", "h:1", "--shared", NONE)
    server = gateway(mounts={one.path: one for one in (live("m/b", version=old),)})
    server.sys.catalog.entries[old] = CatalogEntry("skyflow", old, False, "cd" * 32, "f", args)
    register_plugin(server, replace(BARE, args=("--only-host=h:1", "--shared", NONE)), refuse)
    assert len(server.sys.catalog.entries) == 2


def test_arguments_of_the_version_that_mounts_run_are_not_lost_without_a_question():
    old, args = "v0.9.0", ("--only-host=h:1", "--shared", NONE)
    server = gateway(mounts={one.path: one for one in (live("m/b", version=old), live("kv", "kv"))})
    server.sys.catalog.entries[old] = CatalogEntry("skyflow", old, False, "cd" * 32, "f", args)
    with pytest.raises(RefusedError):
        register_plugin(server, BARE, refuse)
    assert list(server.sys.catalog.entries) == [old]
    asked = []
    register_plugin(server, BARE, asked.append)
    (lost,) = asked[0].lost
    assert lost == LostArguments(old, args, ("--only-host=h:1",), ("m/b",))
    register_plugin(server, replace(BARE, args=(*args, "--allow-host=h:2")), lambda question: None)
    kept = register_plugin(
        server, replace(BARE, args=(*args, "--allow-host=h:2"), sha256="ef" * 32), refuse
    )
    assert [one.field for one in kept] == ["sha256"]


def test_a_new_digest_alone_is_no_question():
    server = gateway()
    register_plugin(server, BARE)
    register_plugin(server, replace(BARE, sha256="cd" * 32), refuse)
    assert server.sys.catalog.entries["v1.0.0"].sha256 == "cd" * 32


def test_a_plugin_that_does_not_start_leaves_no_entry():
    server = gateway(reports=None)
    with pytest.raises(UnhealthyError) as refused:
        register_plugin(server, WANTED)
    assert refused.value.problems[0].code == "plugin-does-not-start"
    assert server.sys.catalog.entries == {}


def test_a_plugin_of_another_version_is_refused_with_its_own():
    server = gateway(reports="v2.0.0")
    with pytest.raises(InvalidInputError) as refused:
        register_plugin(server, WANTED)
    assert "v2.0.0" in refused.value.problems[0].why
    assert server.sys.catalog.entries == {}


def test_another_refusal_is_passed_on():
    server = gateway()

    def refuse(*_, **__):
        raise BadRequestError("no", messages=("missing SHA-256 value",))

    server.sys.catalog.register = refuse
    with pytest.raises(BadRequestError):
        register_plugin(server, WANTED)


def live(path, kind="skyflow", version="v1.0.0", sha256="ab" * 32):
    return SimpleNamespace(
        path=path,
        type=kind,
        plugin_version=version,
        running_plugin_version=version,
        running_sha256=sha256,
    )


def with_mounts(*mounts):
    server = gateway(mounts={one.path: one for one in mounts})
    server.sys.mount = lambda path: server.sys.mounts()[path]
    register_plugin(server, WANTED)
    return server


def test_the_list_has_catalog_and_running_of_that_name_alone():
    server = with_mounts(live("skyflow/b"), live("kv", "kv"), live("skyflow/a"))
    found = list_plugins(server, "skyflow")
    assert [one.path for one in found.mounts] == ["skyflow/a", "skyflow/b"]
    assert [(one.entry.version, one.state) for one in found.catalog] == [("v1.0.0", "unchecked")]
    assert found.problems(None) == ()
    assert list_plugins(server, "other").catalog == ()


def test_a_mount_that_runs_another_file_than_the_catalogs_is_a_problem_before_the_restart():
    server = with_mounts(
        live("skyflow/a", sha256="cd" * 32),
        live("skyflow/b", version="v0.9.0"),
        live("c", sha256=""),
    )
    found = list_plugins(server, "skyflow")
    assert {one.path: one.state for one in found.mounts} == {
        "c": "not_told",
        "skyflow/a": "differs",
        "skyflow/b": "not_registered",
    }
    codes = [one.code for one in found.problems(None)]
    assert codes == ["plugin-differs", "plugin-not-registered"]


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "skyflow"
    path.write_text(f"#!/bin/sh\n# skyflowctl 1.0.0: {_MARK}.\nexit 0\n")
    path.chmod(0o755)
    return tmp_path


def of_file(directory):
    server = gateway()
    register_plugin(server, replace(WANTED, sha256=file_digest(directory / "skyflow")))
    return server


def test_a_registered_file_that_starts_is_ok(directory):
    (one,) = list_plugins(of_file(directory), "skyflow", directory).catalog
    assert (one.state, one.detail) == ("ok", "")
    assert launcher_version(directory / "skyflow") == "v1.0.0"


def test_a_file_that_is_missing_changed_or_does_not_start_is_a_problem(directory):
    path = directory / "skyflow"
    path.write_text(path.read_text().replace("exit 0", "echo broken >&2; exit 1"))
    server = of_file(directory)
    found = list_plugins(server, "skyflow", directory)
    assert [(one.state, one.detail) for one in found.catalog] == [("does_not_start", "broken")]
    (problem,) = found.problems(directory)
    assert "a new folder of its own" in problem.fix
    path.write_text("other")
    (problem,) = list_plugins(server, "skyflow", directory).problems(directory)
    assert problem.code == "plugin-file-changed"
    path.unlink()
    (problem,) = list_plugins(server, "skyflow", directory).problems(directory)
    assert problem.code == "plugin-file-missing"
    assert f"bin/python -m skyflowctl.plugin.build {directory};" in problem.fix
    assert "the options that v1.0.0 was registered with" in problem.fix


def test_prune_keeps_what_an_entry_names_or_a_mount_runs_and_what_is_not_ours(directory):
    for name in ("unused", "running"):
        text = (directory / "skyflow").read_text() + f"# {name}\n"
        (directory / name).write_text(text)
    (directory / "other-plugin").write_text("binary")
    (directory / "link").symlink_to(directory / "unused")
    server = of_file(directory)
    server.sys.mounts = lambda: {"m": live("m", sha256=file_digest(directory / "running"))}
    plan = plan_prune(server, directory)
    assert [path.name for path in plan.unused] == ["unused"]
    assert {one.file: one.why for one in plan.kept} == {
        "skyflow": "registered as skyflow v1.0.0",
        "running": "a mount runs it",
    }


class Reloading:
    """Mounts that run the registered file after a reload, unless they are broken."""

    def __init__(self, *paths, broken=""):
        self.mounts = {path: live(path, sha256="old") for path in paths}
        self.broken = broken
        self.reloaded = []
        self.sys = SimpleNamespace(
            catalog=SimpleNamespace(reload_mounts=self._reload),
            mounts=lambda: dict(self.mounts),
            mount=lambda path: self.mounts[path],
        )

    def _reload(self, paths):
        (path,) = paths
        self.reloaded.append(path)
        if path != self.broken:
            self.mounts[path].running_sha256 = WANTED.sha256

    def engine(self, path):
        return SimpleNamespace(health=lambda *, refresh: SimpleNamespace(state="ok"))


def test_reload_goes_mount_by_mount_and_stops_at_the_first_that_is_not_well():
    server, seen = Reloading("a", "b", "c"), []
    assert [one.path for one in reload_mounts(server, WANTED, seen.append)] == ["a", "b", "c"]
    assert [one.sha256 for one in seen] == [WANTED.sha256] * 3
    server = Reloading("a", "b", "c", broken="b")
    with pytest.raises(PartlyDoneError) as caught:
        reload_mounts(server, WANTED, seen.append)
    assert server.reloaded == ["a", "b"]
    assert "b is unhealthy" in caught.value.problems[0].summary


@pytest.mark.parametrize("where", ["the list", "the reload", "the look afterwards"])
def test_a_refusal_after_the_catalog_was_written_is_partly_done_and_names_what_is_done(where):
    server = Reloading("a", "b", "c")

    def refuse(*_):
        raise error_for(403, ("permission denied",), method="PUT", path="sys/x", request_id="r")

    def reload(paths):
        if paths == ["b"]:
            refuse()
        Reloading._reload(server, paths)

    if where == "the list":
        server.sys.mounts = refuse
    elif where == "the reload":
        server.sys.catalog.reload_mounts = reload
    else:
        server.sys.mount = lambda path: refuse() if path == "b" else server.mounts[path]
    with pytest.raises(PartlyDoneError) as caught:
        reload_mounts(server, WANTED, lambda one: None)
    (problem,) = caught.value.problems
    assert caught.value.exit_code == 3
    assert "the plugin is registered, but " in problem.summary
    assert problem.why.endswith(f"before it: {'none' if where == 'the list' else 'a'}")
    assert problem.fix.endswith("; then run the same command again")


def test_a_reload_that_waits_for_an_approval_stays_pending():
    server = Reloading("a")
    request = SimpleNamespace(method="PUT", path="sys/plugins/reload/backend")
    words = {"why": "a control group", "fix": "have it approved"}
    pending = PendingError("the reload waits", **words, request=request, stored="none")

    def wait(paths):
        raise pending

    server.sys.catalog.reload_mounts = wait
    with pytest.raises(PendingError):
        reload_mounts(server, WANTED, lambda one: None)


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


def test_variables_that_a_launcher_removes_are_named(tmp_path):
    # The file's own list counts: this one passes on LANG and TZ alone.
    kept = " ".join(f'${{{name}+"{name}=${name}"}}' for name in ("LANG", "TZ"))
    launcher = tmp_path / "skyflow"
    launcher.write_text(f"#!/bin/sh\n# a launcher made by `skyflowctl plugin build`\n{kept}\n")
    lost = names_not_passed(launcher, ["TZ=UTC", "LOG_LEVEL=debug", "HTTP_PROXY=x", "LANG=C"])
    assert lost is not None
    assert (lost.code, lost.summary) == (
        "env-not-passed",
        "the engine will not get HTTP_PROXY, LOG_LEVEL",
    )
    assert names_not_passed(launcher, ["TZ=UTC"]) is None
    other = tmp_path / "go-plugin"
    other.write_bytes(b"\x7fELF")
    assert names_not_passed(other, ["LOG_LEVEL=debug"]) is None


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="skyflow"):
        file_digest(tmp_path / "skyflow")


def test_the_probe_version_is_one_that_a_catalog_takes():
    assert PROBE_VERSION.startswith("v0.0.0-")


@pytest.mark.parametrize(
    ("error", "kind", "code", "words"),
    [
        (
            error_for(
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
            OutcomeUnknownError("no answer", why="none in time"),
            UnhealthyError,
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

    monkeypatch.setattr(server.sys.catalog, "register", refuse)
    with pytest.raises(kind) as caught:
        register_plugin(server, BARE)
    (problem,) = caught.value.problems
    assert problem.code == code
    assert words in problem.fix
