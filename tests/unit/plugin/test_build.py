"""The launcher: what it covers, what it refuses, and how it is written."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import py_compile
import re
import shutil
import stat
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from support.plugin import build_from, copy_source

from skyflowctl.errors import RefusedError, UsageError
from skyflowctl.plugin import build, launcher
from skyflowctl.plugin.launcher import ALLOWED, CoveredOnly, clean_environment, digest
from skyflowctl.telemetry.settings import TELEMETRY_NAMES
from skyflowctl.version import semver


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package with a module, a compiled file and a subfolder."""
    folder = tmp_path / "pack"
    (folder / "sub").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "one.py").write_text("ONE = 1\n")
    (folder / "sub" / "two.py").write_text("TWO = 2\n")
    (folder / "data.txt").write_text("x")
    py_compile.compile(str(folder / "one.py"))
    return folder


def _add(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"new")


@pytest.mark.parametrize(
    "change",
    [
        lambda pack: (pack / "one.py").write_text("ONE = 2\n"),
        lambda pack: (pack / "sub" / "two.py").unlink(),
        lambda pack: (pack / "one.py").rename(pack / "eleven.py"),
        lambda pack: _add(pack / "three.py"),
        lambda pack: _add(pack / f"one{EXTENSION_SUFFIXES[0]}"),
        lambda pack: _add(pack / "one.so"),
        lambda pack: _add(pack / "four.pyc"),
        lambda pack: _add(pack / "five" / "__init__.py"),
        lambda pack: _add(pack / "__pycache__" / f"one{launcher._CACHED}"),
        lambda pack: shutil.rmtree(pack / "__pycache__"),
    ],
)
def test_every_change_of_what_an_import_could_load_is_found(package: Path, change):
    before = digest([("pack", str(package))])
    change(package)
    assert digest([("pack", str(package))]) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda pack: (pack / "data.txt").write_text("y"),
        lambda pack: _add(pack / "__pycache__" / "one.cpython-27.pyc"),
        lambda pack: os.utime(pack / "one.py", (1, 1)),
    ],
)
def test_what_this_interpreter_would_not_load_does_not_count(package: Path, change):
    before = digest([("pack", str(package))])
    change(package)
    assert digest([("pack", str(package))]) == before


def test_a_single_module_is_covered_with_its_compiled_file(package: Path):
    module = str(package / "one.py")
    assert len(list(launcher.covered_files(module))) == 2
    before = digest([("pack.one", module)])
    (package / "__pycache__" / f"one{launcher._CACHED}").write_bytes(b"other")
    assert digest([("pack.one", module)]) != before


def test_content_does_not_move_between_files_unnoticed(tmp_path: Path):
    digests = set()
    for number, contents in enumerate([("ab", "c"), ("a", "bc"), ("abc", "")]):
        folder = tmp_path / str(number) / "pack"
        folder.mkdir(parents=True)
        for name, content in zip(("a.py", "b.py"), contents, strict=True):
            (folder / name).write_text(content)
        digests.add(digest([("pack", str(folder))]))
    assert len(digests) == 3


def test_the_environment_is_cut_down():
    environ = {"SSL_CERT_FILE": "x", "BAO_UNSEAL_KEY": "secret", "https_proxy": "p", "PATH": "/bin"}
    assert clean_environment(environ) == {"SSL_CERT_FILE": "x", "https_proxy": "p"}
    # OTEL_EXPORTER_OTLP_CLIENT_KEY and its like name a file.
    secret = {name for name in ALLOWED if "KEY" in name or "TOKEN" in name}
    assert {name for name in secret if not name.endswith("_CLIENT_KEY")} == set()


def test_the_names_of_telemetry_pass_and_no_other_of_theirs():
    assert TELEMETRY_NAMES <= ALLOWED
    theirs = {name for name in ALLOWED if name.startswith(("OTEL_", "TELEMETRY_"))}
    assert theirs <= TELEMETRY_NAMES


def test_only_covered_modules_are_found(package: Path):
    _add(package / "shared" / "sub" / "deep.py")
    finder = CoveredOnly(
        [
            ("pack", str(package / "__init__.py")),
            ("pack.one", str(package / "one.py")),
            ("shared.sub", str(package / "shared" / "sub")),
        ]
    )
    for name, file in [
        ("pack", "__init__.py"),
        ("pack.one", "one.py"),
        ("shared.sub.deep", "shared/sub/deep.py"),
    ]:
        spec = finder.find_spec(name)
        assert spec is not None
        assert spec.origin == str(package / file)
    for name in ("shared", "shared.sub"):  # packages without a file of their own
        spec = finder.find_spec(name)
        assert spec is not None
        assert (spec.origin, spec.submodule_search_locations) == (None, [])
    assert finder.find_spec("json") is None
    for name in ("pack.sub", "pack.sub.two", "pack.oneself", "shared.other", "pack.one.more"):
        with pytest.raises(ModuleNotFoundError):
            finder.find_spec(name)


def test_rivals_of_one_name_are_taken_in_pythons_order(package: Path):
    (package / "one").mkdir()
    rivals = ["one/__init__.py", *(f"one{suffix}" for suffix in EXTENSION_SUFFIXES), "one.py"]
    for file in (*rivals, "one.pyc"):
        (package / file).write_bytes(b"")
    for file in (*rivals, "one.pyc"):
        assert launcher.module_files([("pack", str(package))])["pack.one"] == str(package / file)
        (package / file).unlink()


def test_what_is_found_is_what_the_launcher_lists():
    names = [name for name, _ in build.find_modules()]
    assert {"skyflowctl.engine", "h11", "hpack", "cryptography"} <= set(names)
    assert not any(name.startswith(("skyflowctl.cli", "skyflowctl.vault")) for name in names)
    assert all(Path(path).exists() for _, path in build.find_modules())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of the package and a launcher for it: (source, launcher, sha256)."""
    folder = tmp_path_factory.mktemp("built")
    source = copy_source(folder)
    (folder / "plugins").mkdir()
    sha256 = build_from(source, folder / "plugins", "skyflow")
    return source, folder / "plugins" / "skyflow", sha256


def _run(path: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(path)], env=environ, text=True, capture_output=True, check=False, timeout=30
    )


def test_the_launcher_is_one_executable_file(built):
    _, path, sha256 = built
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert [entry.name for entry in path.parent.iterdir()] == ["skyflow"]
    compile(path.read_text(), "skyflow", "exec")


def test_the_launcher_imports_what_it_covers_and_nothing_else(built):
    _, path, _ = built
    done = _run(path, {"SECRET": "x", "PYTHONPATH": "/nowhere", "PYTHONVERBOSE": "1"})
    assert done.returncode == 1
    assert done.stdout == ""
    assert "never by hand" in done.stderr
    assert "import " not in done.stderr


def test_a_changed_file_stops_the_launcher_with_one_json_line(built, tmp_path: Path):
    source, _, _ = built
    copy = tmp_path / "src"
    shutil.copytree(source, copy)
    build_from(copy, tmp_path, "changed")
    assert "never by hand" in _run(tmp_path / "changed", {}).stderr
    (copy / "skyflowctl" / "plugin" / "intruder.py").write_text("")
    done = _run(tmp_path / "changed", {})
    (line,) = done.stderr.splitlines()
    entry = json.loads(line)
    assert (done.returncode, done.stdout, entry["@level"]) == (1, "", "error")
    assert "skyflowctl plugin build" in entry["@message"]


@pytest.fixture(scope="module")
def exposed(tmp_path_factory) -> tuple[Path, Path]:
    """A launcher whose library with native code lies beside the package: (source, launcher)."""
    folder = tmp_path_factory.mktemp("exposed")
    source = copy_source(folder)
    native = importlib.util.find_spec("_cffi_backend")
    assert native is not None
    shutil.copy(str(native.origin), source)
    build_from(source, folder, "exposed")
    return source, folder / "exposed"


_PLANTED = [
    "skyflowctl/secret/__init__.py",
    f"skyflowctl/secret{EXTENSION_SUFFIXES[0]}",
    "skyflowctl/secret.so",
    "skyflowctl/clock/__init__.py",
    "skyflowctl/errors.pyc",
    "skyflowctl/__init__.so",
    "skyflowctl/hvac.py",
    "skyflowctl/secret/deeper.py",
    "_cffi_backend/__init__.py",
    "_cffi_backend.py",
    "_cffi_backend/inner.py",
    "google/__init__.py",
    "google.py",
    "json/__init__.py",
    "socket.py",
    "sitecustomize.py",
    "planted.pth",
]


@pytest.mark.parametrize("planted", _PLANTED)
def test_a_file_put_beside_a_covered_one_is_not_loaded(
    exposed: tuple[Path, Path], tmp_path: Path, planted: str
):
    source, path = exposed
    mark, file = tmp_path / "ran", source / planted
    made = [one for one in (file, *file.parents) if not one.exists()]
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"import io; io.open({str(mark)!r}, 'w').close()\n")
    try:
        done = _run(path, {})
    finally:
        for one in made:
            one.rmdir() if one.is_dir() else one.unlink()
    assert "never by hand" in done.stderr
    assert not mark.exists()


def test_a_missing_package_stops_the_launcher_with_its_path(built, tmp_path: Path):
    source, _, _ = built
    copy = tmp_path / "src"
    shutil.copytree(source, copy)
    build_from(copy, tmp_path, "missing")
    shutil.rmtree(copy / "skyflowctl" / "engine")
    done = _run(tmp_path / "missing", {})
    entry = json.loads(done.stderr)
    assert done.returncode == 1
    assert str(copy / "skyflowctl" / "engine") in entry["@message"]


def test_building_twice_gives_the_same_file(built, tmp_path: Path):
    source, path, sha256 = built
    assert build_from(source, tmp_path, "skyflow") == sha256
    assert (tmp_path / "skyflow").read_bytes() == path.read_bytes()


def test_a_build_never_replaces_a_file_with_other_bytes(tmp_path: Path):
    first = build.build_launcher(tmp_path)
    assert first.path.name == f"skyflow-{semver()}-{first.sha256[:12]}"
    assert build.build_launcher(tmp_path) == first
    first.path.write_text(first.path.read_text() + "# changed\n")
    with pytest.raises(RefusedError) as caught:
        build.build_launcher(tmp_path, own_environment=False)
    assert caught.value.problems[0].code == "launcher-changed"
    assert first.path.read_text().endswith("# changed\n")
    assert list(tmp_path.iterdir()) == [first.path]


def test_what_is_no_launcher_in_the_folder_disturbs_no_build(tmp_path: Path):
    head = b"#!/bin/sh\n# a launcher made by `skyflowctl plugin build`\n"
    (tmp_path / "changed").write_bytes(head + b"\xff\xfe not UTF-8")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert [build.is_launcher(path) for path in sorted(tmp_path.iterdir())] == [True, False, False]
    assert build.build_launcher(tmp_path).path.exists()


def test_an_environment_that_another_launcher_names_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = build.build_launcher(tmp_path)
    assert build.build_launcher(tmp_path, "other").sha256 == first.sha256  # nothing has changed
    monkeypatch.setattr(build, "__version__", "9.9.9")
    monkeypatch.setattr(build, "semver", lambda: "v9.9.9")
    with pytest.raises(RefusedError) as caught:
        build.build_launcher(tmp_path)
    problem = caught.value.problems[0]
    assert problem.code == "environment-in-use"
    assert "/opt/skyflowctl/v9.9.9" in problem.fix
    assert f"skyflowctl plugin prune {tmp_path}" in problem.fix


@pytest.fixture
def installed(tmp_path: Path):
    """Build from an installation (not a checkout) into a folder; exit code, and what it says."""
    source = tmp_path / "site-packages"
    copy_source(tmp_path).rename(source)

    def build_into(name: str) -> tuple[int, str]:
        (tmp_path / name).mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "skyflowctl.plugin.build", str(tmp_path / name)],
            env={"PYTHONPATH": str(source), "PATH": os.environ["PATH"]},
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    return source / "skyflowctl", build_into


def test_c1_an_installation_belongs_to_one_build_wherever_its_launcher_is(installed):
    package, build_into = installed
    code, first = build_into("one")
    assert code == 0, first
    code, same = build_into("two")
    assert (code, json.loads(same)["sha256"]) == (0, json.loads(first)["sha256"])
    launched = _run_check(Path(json.loads(first)["path"]))
    assert launched.returncode == 0, launched.stderr  # the note is not covered
    with (package / "clock.py").open("a") as module:
        module.write("# the next version\n")
    code, refused = build_into("three")
    assert code == 5
    assert json.loads(first)["path"] in refused
    assert "/opt/skyflowctl/v" in refused
    command = refused.partition("the old launcher: ")[2].split("\n")[0]
    assert command == f"rm {package / build.ENVIRONMENT_MARK}"
    subprocess.run(command.split(), check=True)
    assert build_into("four")[0] == 0


def test_c1_a_note_that_nobody_can_read_is_no_leave(installed):
    package, build_into = installed
    (package / build.ENVIRONMENT_MARK).write_text("{")
    assert build_into("one")[0] == 5


def _run_check(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(path), "--check"], env={}, text=True, capture_output=True, check=False, timeout=30
    )


def test_check_says_whether_the_plugin_can_start(built, tmp_path: Path):
    source, path, _ = built
    done = subprocess.run(
        [str(path), "--check"], env={}, text=True, capture_output=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("the plugin can start: digest ")
    copy = tmp_path / "src"
    shutil.copytree(source, copy)
    build_from(copy, tmp_path, "changed")
    (copy / "skyflowctl" / "secret.py").write_text("")
    done = subprocess.run(
        [str(tmp_path / "changed"), "--check"],
        env={}, text=True, capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "folder of its own" in json.loads(done.stderr)["@message"]


def test_running_writes_no_compiled_file(built):
    source, path, _ = built
    before = sorted(source.rglob("*"))
    _run(path, {})
    assert sorted(source.rglob("*")) == before


def test_an_interpreters_path_may_be_longer_than_a_first_line_can_hold(tmp_path: Path):
    folder = tmp_path / ("x" * 140) / ("y" * 140)
    folder.mkdir(parents=True)
    python = folder / "python"
    python.symlink_to(sys.executable)
    found = build.build_launcher(tmp_path, "long", python=str(python))
    assert found.python == str(python)
    assert "never by hand" in _run(found.path, {}).stderr


def test_a_missing_interpreter_is_one_json_line(tmp_path: Path):
    found = build.build_launcher(tmp_path, "gone", python=str(tmp_path / "absent" / "python"))
    done = _run(found.path, {})
    assert done.returncode == 1
    assert "absent/python is missing" in json.loads(done.stderr)["@message"]


@pytest.mark.parametrize("name", ["", "Skyflow", "../x", "a/b", ".hidden", "x" * 70])
def test_a_bad_name_is_refused(tmp_path: Path, name: str):
    with pytest.raises(UsageError):
        build.build_launcher(tmp_path, name)


@pytest.mark.parametrize("python", ["python", "/a'b/python", "/a\\b/python", "/a\nb/python"])
def test_a_bad_interpreter_is_refused(tmp_path: Path, python: str):
    with pytest.raises(UsageError):
        build.build_launcher(tmp_path, "skyflow", python=python)


def test_a_missing_folder_is_refused(tmp_path: Path):
    with pytest.raises(UsageError):
        build.build_launcher(tmp_path / "absent")


def test_a_missing_library_is_refused_with_the_fix(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "_LIBRARIES", ("no_such_library_here",))
    with pytest.raises(RefusedError) as caught:
        build.find_modules()
    assert "skyflowctl[plugin]" in caught.value.problems[0].fix


def test_only_stale_files_are_compiled(package: Path):
    cached = package / "__pycache__" / f"one{launcher._CACHED}"
    kept = cached.stat().st_ino
    build._compile((("pack", str(package)),))
    assert cached.stat().st_ino == kept
    assert (package / "sub" / "__pycache__" / f"two{launcher._CACHED}").exists()
    (package / "one.py").write_text("ONE = 1000\n")
    build._compile((("pack", str(package)),))
    assert cached.stat().st_ino != kept


def test_a_folder_that_cannot_be_compiled_is_refused(
    package: Path, monkeypatch: pytest.MonkeyPatch
):
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/not-mine/x.pyc")

    monkeypatch.setattr("py_compile.compile", denied)
    with pytest.raises(RefusedError) as caught:
        build._compile((("pack", str(package)),))
    assert "/not-mine/x.pyc" in caught.value.problems[0].why


def test_the_lock_is_what_the_launcher_needs():
    """Every distribution of the lock is covered, but for those only needed to build."""
    names = locked("plugin.txt")
    known = {name.partition(".")[0] for name in build._LIBRARIES}
    assert names - known - {"cffi", "pycparser", "typing-extensions"} == set()


def locked(file: str) -> set[str]:
    """The distributions of a lock, each with its hashes."""
    text = (Path(__file__).parents[3] / "requirements" / file).read_text()
    names = re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE)
    assert "://" not in text
    assert text.count("--hash=sha256:") > len(names)
    return set(names)


def test_the_locks_of_telemetry_are_what_its_libraries_are_of():
    """charset-normalizer is the one that is not covered; see ``_TELEMETRY``."""
    otel, grpc = locked("plugin-otel.txt"), locked("plugin-otel-grpc.txt")
    assert otel < grpc
    plain = {name for name in otel if not name.startswith("opentelemetry-")}
    assert plain == {
        "certifi",
        "charset-normalizer",
        "googleapis-common-protos",
        "idna",
        "protobuf",
        "requests",
        "typing-extensions",
        "urllib3",
    }
    assert grpc - otel == {"grpcio", "opentelemetry-exporter-otlp-proto-grpc"}


def test_the_libraries_of_telemetry_have_a_digest_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without telemetry they are not read; with it, a changed one stops the start."""
    library = tmp_path / "pretended"
    library.mkdir()
    (library / "__init__.py").write_text("")
    monkeypatch.setattr(build, "find_telemetry_modules", lambda: (("pretended", str(library)),))
    path = build.build_launcher(tmp_path, own_environment=False).path
    (library / "__init__.py").write_text("changed = True")

    def check(**environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [path, "--check"], env=environ, text=True, capture_output=True, check=False, timeout=60
        )

    assert check().returncode == 0
    assert check(ENV="dev").returncode == 0
    refused = check(TELEMETRY_ENABLED="true")
    assert refused.returncode == 1
    assert "its files are not those" in json.loads(refused.stderr)["@message"]


def test_without_one_of_them_there_is_no_telemetry(monkeypatch: pytest.MonkeyPatch):
    every = {name for name, _ in build.find_telemetry_modules()}
    assert every == {*build._TELEMETRY, "grpc"}
    monkeypatch.setattr(build, "_TELEMETRY", build._TELEMETRY | {"not_installed_library"})
    assert build.find_telemetry_modules() == ()
