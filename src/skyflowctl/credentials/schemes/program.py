"""``exec``: a secret that a program prints."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Collection
from pathlib import Path

from skyflowctl.credentials.errors import ReferenceNotAllowedError, UnresolvedReferenceError
from skyflowctl.credentials.schemes.output import MAX_BYTES, as_secret
from skyflowctl.errors import os_reason
from skyflowctl.secret import Secret

SECONDS = 10.0
_PASSED_ON = ("PATH", "HOME", "LANG")


def read(allowed: Collection[str], folder: str, *argv: str, seconds: float | None = None) -> Secret:
    """Run a program, without a shell, and return its output.

    Args:
        allowed: the programs that the command line allows, as absolute paths.
        folder: the manifest's; who may change the manifest may often change files beside it.
        argv: the program's absolute path, and its arguments, which no message repeats.
        seconds: the time limit; 10 by default.

    Raises:
        UnresolvedReferenceError: it is not allowed, or below the folder; it cannot be started, is
            too slow, or fails; its output is empty, larger than 1 MiB or no UTF-8 text. No message
            repeats what it wrote to stderr, which can contain the secret.
    """
    program = argv[0]
    _refuse(program, allowed, folder)
    try:
        process = subprocess.Popen(  # noqa: S603 - an argv list; the command line names the program
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        why = os_reason(error) if isinstance(error, OSError) else "an argument has a zero byte"
        raise UnresolvedReferenceError(
            f"{program} cannot be started", why=why, fix="correct the program in `exec`"
        ) from None
    try:
        raw = _output(process, time.monotonic() + (SECONDS if seconds is None else seconds))
    except BaseException:
        _kill(process)
        raise
    if process.returncode:
        raise UnresolvedReferenceError(
            f"{program} failed with {_status(process.returncode)}",
            why="what it wrote to stderr is not shown, because it can contain the secret",
            fix="run it yourself in a terminal",
        )
    return as_secret(raw, program)


def _refuse(program: str, allowed: Collection[str], folder: str) -> None:
    places = {os.path.normpath(program), os.path.realpath(program)}
    folders = {os.path.normpath(folder), os.path.realpath(folder)}
    if any(Path(place).is_relative_to(one) for place in places for one in folders):
        raise ReferenceNotAllowedError(
            f"{program} is below the manifest's folder, or leads there",
            why="who can change the manifest could change the program with it",
            fix="install the program elsewhere, such as in /usr/local/bin",
        )
    if program not in allowed:
        raise ReferenceNotAllowedError(
            f"the program {program} is not allowed",
            why="a manifest runs a program only if the command line names it",
            fix=f"if you trust the manifest, add --allow-exec={program}",
        )


def _output(process: "subprocess.Popen[bytes]", deadline: float) -> bytes:
    """Return the output, up to a little over the limit, once the program has ended.

    Raises:
        UnresolvedReferenceError: too late, or too much.
    """
    assert process.stdout is not None
    program, raw = str(process.args[0]), b""  # type: ignore[index]  # a sequence
    descriptor = process.stdout.fileno()
    while True:
        left = deadline - time.monotonic()
        # poll, not select: a process may have more than 1024 open files.
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if left <= 0 or not poll.poll(left * 1000):
            raise _too_slow(program)
        part = os.read(descriptor, 65536)
        if not part:
            break
        raw += part
        if len(raw) > MAX_BYTES:
            as_secret(raw, program)
    process.stdout.close()
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _too_slow(program) from None
    return raw


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End the program and its children; it is not reaped yet, so its group is still its own."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _too_slow(program: str) -> UnresolvedReferenceError:
    return UnresolvedReferenceError(
        f"{program} did not end in time",
        why="it has 10 seconds, until it and its children have closed their output",
        fix="make it faster, and let it ask nothing: it has no terminal",
    )


def _status(code: int) -> str:
    return f"exit status {code}" if code > 0 else f"signal {-code}"
