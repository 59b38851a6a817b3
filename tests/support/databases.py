"""Real PostgreSQL and MariaDB servers for tests: an unprivileged user, a free port, own folders.

The binaries are those of Debian's packages postgresql and mariadb-server-core; no service runs.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.bao import free_port_pair
from support.tied import die_with_parent

ADMIN = "bao_admin"


@dataclass
class Database:
    """A running database server with an administrator named ``ADMIN``."""

    port: int
    password: str = field(repr=False)
    query: Callable[[str], str] = field(repr=False)
    url: str = ""
    plugin: str = ""


def postgres_binary(name: str) -> str | None:
    """The path of a PostgreSQL program of the newest installed version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


def mariadb_binary() -> str | None:
    """The path of MariaDB's server."""
    return shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin")


def databases_installed() -> bool:
    return all((postgres_binary("initdb"), shutil.which("psql"), mariadb_binary()))


@contextlib.contextmanager
def running_postgres() -> Iterator[Database]:
    """Run PostgreSQL until the end of the block."""
    with _folder() as folder, _port() as port:
        password = "pg-" + os.urandom(12).hex()
        secret = folder / "password"
        secret.write_text(password)
        _own(folder)
        data = str(folder / "data")
        made = [_program("initdb"), "-D", data, "-U", ADMIN, "--auth=scram-sha-256", "--no-sync"]
        _run([*made, f"--pwfile={secret}"], folder)
        secret.unlink()

        def query(statement: str) -> str:
            where = ["-h", "127.0.0.1", "-p", str(port), "-U", ADMIN, "-d", "postgres"]
            return _ask(["psql", *where, "-Atc", statement], {"PGPASSWORD": password})

        server = [_program("postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port)]
        with _running([*server, "-k", str(folder), "-F"], folder, signal.SIGINT):
            _until(lambda: query("SELECT 1"))
            auth = "{{username}}:{{password}}"
            yield Database(
                port,
                password,
                query,
                f"postgresql://{auth}@127.0.0.1:{port}/postgres?sslmode=disable",
                "postgresql-database-plugin",
            )


@contextlib.contextmanager
def running_mariadb() -> Iterator[Database]:
    """Run MariaDB until the end of the block."""
    with _folder() as folder, _port() as port:
        password = "my-" + os.urandom(12).hex()
        _own(folder)
        data = f"--datadir={folder / 'data'}"
        install = ["mariadb-install-db", "--no-defaults", data, "--skip-test-db"]
        _run([*install, "--auth-root-authentication-method=normal"], folder)
        binary = mariadb_binary()
        assert binary
        socket = folder / "s.sock"
        listen = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={socket}"]
        rest = [f"--pid-file={folder / 'pid'}", "--skip-log-bin"]

        def ask(user: str, secret: str, statement: str) -> str:
            client = ["mariadb", "--no-defaults", "-N", "-h", "127.0.0.1", "-P", str(port)]
            return _ask([*client, "-u", user, "-e", statement], {"MYSQL_PWD": secret})

        with _running([binary, "--no-defaults", data, *listen, *rest], folder, signal.SIGTERM):
            _until(lambda: ask("root", "", "SELECT 1"))
            who = f"'{ADMIN}'@'127.0.0.1'"
            ask("root", "", f"CREATE USER {who} IDENTIFIED BY '{password}'")
            ask("root", "", f"GRANT ALL ON *.* TO {who} WITH GRANT OPTION")
            yield Database(
                port,
                password,
                lambda statement: ask(ADMIN, password, statement),
                f"{{{{username}}}}:{{{{password}}}}@tcp(127.0.0.1:{port})/",
                "mysql-database-plugin",
            )


def _program(name: str) -> str:
    found = postgres_binary(name)
    assert found, f"no {name}: install postgresql"
    return found


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sfdb"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _port() -> Iterator[int]:
    yield free_port_pair()


def _nobody() -> dict[str, object]:
    """Arguments of ``Popen`` for an unprivileged user: both servers refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _own(folder: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        for path in (folder, *folder.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)


def _environ(folder: Path) -> dict[str, str]:
    return {"PATH": f"{os.environ['PATH']}:/usr/sbin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, env=_environ(folder), capture_output=True, text=True, timeout=120,
        check=False, **_nobody(),  # type: ignore[call-overload]
    )  # fmt: skip
    assert done.returncode == 0, f"{command[0]}: {done.stdout}\n{done.stderr}"


@contextlib.contextmanager
def _running(command: Sequence[str], folder: Path, stop: signal.Signals) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=_environ(folder), stdout=log, stderr=log,
            stdin=subprocess.DEVNULL, preexec_fn=die_with_parent, **_nobody(),  # type: ignore[call-overload]
        )  # fmt: skip
    try:
        yield
    except BaseException:
        print((folder / "log").read_text(errors="replace")[-2000:])
        raise
    finally:
        process.send_signal(stop)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ask(command: Sequence[str], secret: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **secret},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def _until(ready: Callable[[], str]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            ready()
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return
