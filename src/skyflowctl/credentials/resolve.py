"""Resolves references of every scheme to their secrets."""

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from skyflowctl.credentials.errors import (
    ReferenceNotAllowedError,
    ServerFileReferenceError,
    UnresolvedReferenceError,
)
from skyflowctl.credentials.schemes import env, file, keyring, program, stdin, vault
from skyflowctl.errors import Where
from skyflowctl.manifest.model import Reference
from skyflowctl.secret import Secret
from skyflowctl.vault.transport import Transport


@dataclass(slots=True)
class ReferenceResolver:
    """Resolves references to any secret text for one command; called from several threads.

    ``file``, ``env``, ``keyring`` and ``vault`` are read again at each call. ``exec`` and ``stdin``
    are read once, and the secret, or the failure, is kept in memory.

    Args:
        transport: the command's server, for ``vault``; it may be set later. None: no server.
        allowed_programs: the programs that ``exec`` may run.
        allowed_paths: globs of the secrets that a manifest's ``vault`` may read unwatched.
        watched: whether a person sees what ``notice`` says.
        notice: says what is read before ``vault`` or ``exec`` is.
    """

    transport: Transport | None = None
    allowed_programs: Collection[str] = ()
    allowed_paths: Sequence[str] = ()
    watched: bool = False
    notice: Callable[[str], None] = lambda _text: None
    _said: dict[str, str] = field(default_factory=dict)
    _once: dict[tuple[str, ...], Secret | UnresolvedReferenceError | ReferenceNotAllowedError] = (
        field(default_factory=dict, repr=False)
    )
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def connections(self) -> tuple[tuple[str, str], ...]:
        """What was asked or run, as pairs of a server or program, and the purpose."""
        return tuple((place, text) for text, place in self._said.items())

    def resolve(self, reference: Reference, subject: str) -> Secret:
        """Return the secret that a reference names.

        Args:
            reference: its location; ``server_file`` is never read here.
            subject: a description of the secret, for messages, such as ``the credential of
                order``.

        Raises:
            UnresolvedReferenceError: it cannot be resolved, or the command line does not allow
                it; the text names the reference, and the code has the reason.
            VaultError: the server of a ``vault`` reference cannot be asked.
        """
        try:
            return self._read(reference)
        except (UnresolvedReferenceError, ReferenceNotAllowedError) as error:
            cause = error.problems[0]
            raise type(error)(
                f"{subject} ({reference.text}) could not be resolved",
                why=f"{cause.summary}: {cause.why}" if cause.why else cause.summary,
                fix=cause.fix,
                code=cause.code,
                where=position(reference),
            ) from None

    def _read(self, reference: Reference) -> Secret:
        target = reference.target
        match reference.scheme:
            case "file":
                return file.read(*target)
            case "env":
                return env.read(target[0])
            case "keyring":
                return keyring.read(*target)
            case "vault":
                return self._vault(reference)
            case "exec":
                return self._read_once(("exec", *target[1:]), lambda: self._exec(reference))
            case "stdin":
                return self._stdin(reference)
            case "server_file":
                raise ServerFileReferenceError(
                    f"{target[0]} is a file on the server",
                    why="only the engine reads it, and no answer returns it",
                    fix="use the command that has the server read it: 'skyflowctl apply' or"
                    " 'rotate'",
                )

    def _vault(self, reference: Reference) -> Secret:
        path, name = reference.target
        if self.transport is None:
            raise UnresolvedReferenceError(
                f"{path} is on the server, and this command has none",
                why="a vault reference is read from the server that the command works on",
                fix="use a command that works on a server, or a reference of another kind",
                code="reference-without-server",
            )
        typed = not reference.where.file  # the user's own word, on this command line
        if not (
            typed or self.watched or any(fnmatchcase(path, glob) for glob in self.allowed_paths)
        ):
            raise ReferenceNotAllowedError(
                f"reading {path} from the server is not allowed",
                why="no terminal shows what is read, and no --allow-ref covers it",
                fix=f"if you trust the manifest, add --allow-ref={path}",
            )
        self._say(self.transport.server.name, f"vault: {path}, {name}")
        return vault.read(self.transport, path, name)

    def _exec(self, reference: Reference) -> Secret:
        if reference.target[1] in self.allowed_programs:
            self._say(reference.target[1], reference.text)
        return program.read(self.allowed_programs, *reference.target)

    def _stdin(self, reference: Reference) -> Secret:
        owner = ("stdin", reference.text, str(reference.where))
        with self._lock:
            if any(key[0] == "stdin" and key != owner for key in self._once):
                raise UnresolvedReferenceError(
                    "standard input was read for another secret",
                    why="it can be read only once",
                    fix="use another reference for one of the two",
                )
            return self._read_once(owner, stdin.read)

    def _read_once(self, key: tuple[str, ...], read: Callable[[], Secret]) -> Secret:
        with self._lock:
            if key not in self._once:
                try:
                    self._once[key] = read()
                except (UnresolvedReferenceError, ReferenceNotAllowedError) as error:
                    self._once[key] = error
            found = self._once[key]
        if isinstance(found, Secret):
            return found
        raise found

    def _say(self, place: str, text: str) -> None:
        with self._lock:
            if text not in self._said:
                self._said[text] = place
                self.notice(f"reading a secret: {text} ({place})")


def position(reference: Reference) -> Where | None:
    """Return the position of the reference; None for one from the command line."""
    return reference.where if reference.where.file else None
