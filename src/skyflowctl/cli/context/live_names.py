"""Names for a shell's completion: what its script asks for at a TAB.

A child process finds the names, and leaves them in the cache. The shell waits only for a moment:
names that come later are there at the next TAB. Nothing is ever written to the terminal.
"""

import contextlib
import hmac
import json
import os
import re
import select
import signal
import sys
import time
from collections import namedtuple
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from skyflowctl.manifest.discover import existing_files
from skyflowctl.private_files import (
    locked_private,
    make_private_folder,
    open_private,
    user_folder,
    write_private,
)
from skyflowctl.vault.environment import named_address, variable

WAIT_SECONDS = 0.26
"""How long a shell waits from the start of this process; with its end it is less than 300 ms."""
REQUEST_SECONDS = 2.0
"""How long the child waits for an answer of the server."""
CHILD_SECONDS = 10.0
"""When the child ends, whatever it does. A busy machine needs seconds for its imports: a child that
ended before it wrote the cache would find no name at any TAB."""
CACHE_SECONDS = 30
_MOST_BYTES = 1 << 20
_MOST_NAMES = 2000
_USUAL_START = 0.07
# Names, and paths of names: nothing that a shell would expand, or a terminal obey.
_NAME = r"[a-z0-9][a-z0-9_-]{0,62}(?:/[a-z0-9][a-z0-9_-]{0,62}){0,15}"
_SAFE = {
    "mount": re.compile(_NAME),
    "role": re.compile(_NAME),
    "context": re.compile(_NAME),
    "accessor": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"),
}
_OTHER_SERVER = ("--address", "--dev", "--token-file")

Wanted = namedtuple("Wanted", "kind mount paths files context namespace asks_server")  # noqa: PYI024 - typing costs 8 ms
Wanted.__doc__ = """What is completed.

Args:
    kind: mount, role, context or accessor.
    mount: the mount whose roles are wanted, as it was typed.
    paths: whether mounts are wanted by their paths.
    files: of the manifest; empty: there is none.
    context: ``--context``; None: not given.
    namespace: ``--namespace``; None: not given.
    asks_server: False if the line names a server in a way that is not followed here.
"""


def complete(spec: str, *words: str) -> None:
    """Print the names that fit the last word, one a line; nothing if there are none in time.

    Args:
        spec: the kinds of the command's arguments in order, a last one with ``*`` repeats; and the
            options that take a value, each with the kind of that value behind a colon.
        words: after the command's name, up to the one that is completed.
    """
    with contextlib.suppress(Exception):
        ends = time.monotonic() + WAIT_SECONDS - _seconds_running()
        wanted = parse_words(spec, words)
        if wanted is None:
            return
        key = _key(wanted)
        names = read_cache(wanted.kind, key, time.time())
        if names is None:
            names = _found_in_time(wanted, key, ends)
        sys.stdout.write("".join(f"{name}\n" for name in names))
        sys.stdout.flush()


def _seconds_running() -> float:
    """Return how long this process has been running: a busy machine starts Python slowly."""
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2]
        started = int(after_name.split()[19]) / os.sysconf("SC_CLK_TCK")
        seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):  # no Linux
        return _USUAL_START
    return seconds if 0 <= seconds < CHILD_SECONDS else _USUAL_START


def parse_words(spec: str, words: Sequence[str]) -> Wanted | None:
    """Return what the last of the words is, or None if it is nothing that has live names."""
    parts = spec.split()
    kinds = [part for part in parts if not part.startswith("-") and part != "files"]
    takes = dict(part.partition(":")[::2] for part in parts if part.startswith("-"))
    *before, current = words
    arguments: list[str] = []
    values: dict[str, list[str]] = {}
    waiting = ""
    for word in before:
        if waiting and word == "=":  # bash makes three words of --context=prod
            continue
        if waiting:
            values.setdefault(waiting, []).append(word)
            waiting = ""
        elif word == "--":
            return None
        elif word in takes:
            waiting = word
        elif word.startswith("-"):
            name, _, value = word.partition("=")
            values.setdefault(name, []).append(value)
        else:
            arguments.append(word)
    if not waiting and current.startswith("--") and "=" in current:
        waiting, _, current = current.partition("=")
    if "--namespace" not in takes:
        values.pop("-n", None)  # another option of this command
    kind = takes.get(waiting, "") if waiting else _kind_at(kinds, len(arguments))
    if kind not in _SAFE or current.startswith("-"):
        return None
    mount = arguments[-1] if kind == "role" and arguments else ""
    return _wanted(kind, mount, values, paths="/" in current)


def _kind_at(kinds: Sequence[str], number: int) -> str:
    """Return the kind of the argument of this number; empty if it is one too many."""
    if kinds and kinds[-1].endswith("*"):
        number = min(number, len(kinds) - 1)
    return kinds[number].rstrip("*") if number < len(kinds) else ""


def _wanted(kind: str, mount: str, values: dict[str, list[str]], *, paths: bool) -> Wanted | None:
    files = existing_files(values.get("-f", []) + values.get("--file", []), os.environ)
    if "-" in files or (kind == "role" and not _SAFE["mount"].fullmatch(mount.strip("/"))):
        return None
    namespaces = values.get("-n", []) + values.get("--namespace", [])
    return Wanted(
        kind,
        mount,
        paths,
        files if kind in {"mount", "role"} else (),
        values["--context"][-1] if "--context" in values else None,
        namespaces[-1] if namespaces else None,
        not any(flag in values for flag in _OTHER_SERVER),
    )


def safe_names(kind: str, names: Iterable[object]) -> list[str]:
    """Return, sorted, the names of a kind among what a server or a file says."""
    safe = _SAFE[kind]
    found = {name for name in names if isinstance(name, str) and safe.fullmatch(name)}
    return sorted(found)[:_MOST_NAMES]


def _key(wanted: Wanted) -> str:
    """Return a digest of all that the names depend on: files, the server, and who asks it.

    With another token, another context or after another login, the key is another one. A random
    secret is in the digest: the cache alone does not help to guess a token.
    """
    environ = os.environ
    home = Path(environ.get("HOME") or "~").expanduser()
    about = [
        *wanted,
        [_state_of(Path(file).absolute()) for file in wanted.files],
        named_address(environ),
        variable(environ, "NAMESPACE"),
        variable(environ, "TOKEN"),
        _state_of(Path(variable(environ, "TOKEN_PATH") or home / ".vault-token")),
        _state_of(Path(variable(environ, "CONFIG_PATH") or home / ".bao")),
        environ.get("SKYFLOWCTL_CONTEXT"),
        _state_of(user_folder("CONFIG") / "contexts.json"),
        _state_of(user_folder("STATE") / "logins.json"),
        _state_of(user_folder("STATE") / "pending"),
        _state_of(user_folder("STATE") / "pending-files"),
    ]
    text = json.dumps(about).encode(errors="surrogateescape")
    return hmac.digest(_random_secret(), text, "sha256").hex()


def _random_secret() -> bytes:
    """Return the random secret of this user's cache; one that nobody else knows if it cannot be
    stored, so that nothing is found in the cache."""
    file = _cache().with_suffix(".key")
    try:
        make_private_folder(file.parent)
        with locked_private(file, secret=True) as descriptor:
            secret = os.read(descriptor, 32)
            if len(secret) < 32:  # new, or the process that made it was killed
                secret = os.urandom(32)
                os.pwrite(descriptor, secret, 0)
    except OSError:
        secret = os.urandom(32)
    return secret


def _state_of(file: Path) -> tuple[str, int, int, int]:
    try:
        info = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), info.st_mtime_ns, info.st_size, info.st_ino


def _cache() -> Path:
    return user_folder("CACHE") / "completion.json"


def read_cache(kind: str, key: str, now: float) -> list[str] | None:
    """Return the names of a key that were found in the last 30 s before a Unix time, or None."""
    found = _entries(now).get(key)
    return None if found is None else safe_names(kind, found[1])


def write_cache(key: str, names: Sequence[str], now: float) -> None:
    """Store the names of a key, and drop what is too old. Names that another process stores at
    the same time are kept.

    Raises:
        OSError: the cache cannot be written.
    """
    file = _cache()
    make_private_folder(file.parent)
    with locked_private(file.with_suffix(".lock"), secret=True):
        write_private(file, json.dumps({**_entries(now), key: [now, list(names)]}))


def _entries(now: float) -> dict[str, list[Any]]:
    """Return the entries of the cache that are young enough; none if it cannot be used."""
    try:
        with os.fdopen(open_private(_cache(), os.O_RDONLY, secret=True), "rb") as stream:
            entries = json.loads(stream.read(_MOST_BYTES))
        return {
            key: [at, list(names)]
            for key, (at, names) in entries.items()
            if 0 <= now - at < CACHE_SECONDS
        }
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return {}


def _found_in_time(wanted: Wanted, key: str, ends: float) -> list[str]:
    """Return the names that a child process finds in time; it goes on to fill the cache."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            _be_silent()
            _find(wanted, key, writing)
        finally:
            os._exit(0)
    os.close(writing)
    text = b""
    while select.select([reading], [], [], max(0.0, ends - time.monotonic()))[0]:
        piece = os.read(reading, 1 << 16)
        text += piece
        if not piece:
            break
    return safe_names(wanted.kind, text.decode().split("\n")[:-1])


def _be_silent() -> None:
    """Leave the terminal, and end in time, even within a call that does not return."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, CHILD_SECONDS)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)


def _find(wanted: Wanted, key: str, writing: int) -> None:
    from skyflowctl.cli.context.name_sources import name_sources

    found: list[str] = []
    for names in name_sources(wanted):
        some = safe_names(wanted.kind, names)
        found += some
        with contextlib.suppress(OSError):  # the shell waits no longer
            os.write(writing, "".join(f"{name}\n" for name in some).encode())
        # At once: the next source may never answer.
        with contextlib.suppress(OSError):  # names are found without a cache, too
            write_cache(key, found, time.time())
