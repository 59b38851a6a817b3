"""The dev stack's folder: the paths of its files, and how to find it."""

import fcntl
import hashlib
import os
import re
import secrets
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from skyflowctl.errors import RefusedError, UsageError, os_reason
from skyflowctl.frozen import dataclass
from skyflowctl.private_files import (
    is_private_folder,
    make_private_folder,
    planted_below,
    read_private,
    write_private,
)

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Reference

DEV_DIR_VARIABLE = "SKYFLOWCTL_DEV_DIR"
# The names of the server's own storage stanzas.
ServerStorage = Literal["inmem", "raft"]

# A unix socket's path holds at most 107 bytes; go-plugin appends about 25.
_LONGEST_SOCKET_FOLDER = 75


@dataclass(frozen=True, slots=True)
class DevLayout:
    """Paths below one dev folder, usually ``.skyflowctl/dev``.

    Secret files, all of mode 0600 below a folder of mode 0700: ``secrets/*``,
    ``tls/server.key``, ``credentials/*.json`` and ``emulator/*``. They are generated
    for this stack alone and guard nothing else.
    """

    root: Path

    @property
    def state(self) -> Path:
        """Ports, process ids, the cluster id: what ``dev status`` reads. No secret."""
        return self.root / "dev.json"

    @property
    def lock(self) -> Path:
        """Held while a command starts or stops parts."""
        return self.root / "lock"

    @property
    def operator_token(self) -> Path:
        """The server token with full rights that ``dev env`` exports. Secret."""
        return self.root / "secrets" / "operator.token"

    @property
    def unseal_key(self) -> Path:
        """The server's static seal key. Secret."""
        return self.root / "secrets" / "unseal.key"

    @property
    def skyflow_operator_token(self) -> Path:
        """The token for the emulator's Management API alone. Secret."""
        return self.root / "secrets" / "skyflow-operator.token"

    @property
    def skyflow_account_id(self) -> Path:
        """The id of the emulator's Skyflow account, for calls of that API."""
        return self.root / "secrets" / "skyflow-account.id"

    @property
    def ca(self) -> Path:
        """The dev CA's certificate."""
        return self.root / "tls" / "ca.pem"

    @property
    def bundle(self) -> Path:
        """Public roots and the dev CA in one file."""
        return self.root / "tls" / "bundle.pem"

    @property
    def certificate(self) -> Path:
        """The certificate that server and emulator present."""
        return self.root / "tls" / "server.pem"

    @property
    def private_key(self) -> Path:
        """Its key. Secret."""
        return self.root / "tls" / "server.key"

    @property
    def plugins(self) -> Path:
        """The server's plugin directory."""
        return self.root / "plugins"

    @property
    def server_config(self) -> Path:
        """The server's configuration; names its secrets by environment variable only."""
        return self.root / "openbao.hcl"

    @property
    def data(self) -> Path:
        """The server's data, if the stack persists it. Sealed with :attr:`unseal_key`."""
        return self.root / "data"

    @property
    def initialized(self) -> Path:
        """Written once the server in :attr:`data` has initialized; what is there without it is
        the rest of a first start that was killed."""
        return self.data / "initialized"

    @property
    def storage(self) -> ServerStorage:
        """Where the server that was started last keeps its data."""
        return "raft" if self.initialized.exists() else "inmem"

    @property
    def server_log(self) -> Path:
        """What the server and the engine log."""
        return self.root / "logs" / "openbao.log"

    @property
    def audit_log(self) -> Path:
        """The server's audit log."""
        return self.root / "logs" / "audit.log"

    @property
    def emulator(self) -> Path:
        """The emulator's own state. Secret."""
        return self.root / "emulator"

    @property
    def emulator_log(self) -> Path:
        """What the emulator logs."""
        return self.root / "logs" / "emulator.log"

    @property
    def credentials(self) -> Path:
        """The folder of the mounts' generated credentials. Secret."""
        return self.root / "credentials"

    def credential(self, mount: str) -> Path:
        """The generated service-account key that replaces a mount's own. Secret."""
        return self.credentials / f"{mount}.json"

    def generated_value(self, reference: "Reference") -> Path:
        """The generated value that replaces a reference, the same for all its fields. Secret."""
        name = "-".join(reference.target)
        if reference.scheme != "env" or not re.fullmatch(r"\w{1,100}", name, re.ASCII):
            # An argument of a program may be secret.
            name = hashlib.sha256(os.fsencode("\0".join(reference.target))).hexdigest()[:12]
        return self.root / "secrets" / f"value-{reference.scheme}-{name}"

    @property
    def sockets(self) -> Path:
        """The folder of plugin sockets: in the dev folder, or elsewhere if its path is too long."""
        inside = self.root / "run"
        if len(os.fsencode(inside)) <= _LONGEST_SOCKET_FOLDER:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"skyflowctl-{os.getuid()}-{digest}"

    @property
    def marker(self) -> Path:
        """The proof that this user made the folder here with the dev stack."""
        return self.root / ".skyflowctl-dev"

    @property
    def ours(self) -> bool:
        """Whether this user made the folder with the dev stack, in this place.

        A folder from a clone, an archive or a copy does not count, whatever it contains: the marker
        holds inode and change time of a file next to it, which none of them can choose.
        """
        try:
            return is_private_folder(self.root) and read_private(self.marker) == self._mark()
        except (OSError, ValueError):
            return False

    def create(self) -> None:
        """Make the folders, closed to other users, and keep git away from them.

        Raises:
            RefusedError: the folder or its content belongs to another user, or is not the dev
                stack's.
            UsageError: it cannot be made.
        """
        self._check_name()
        try:
            self._claim()
            for path, reason in planted_below(self.root):
                raise self.planted(path, reason)
            for folder in self._folders():
                make_private_folder(folder)
            self._make_sockets()
            write_private(self.root / ".gitignore", "*\n")
        except OSError as error:
            raise UsageError.of_file(
                f"the dev stack's folder cannot be made: {self.root}",
                error,
                fix=f"run this in a writable folder, or name one in {DEV_DIR_VARIABLE}",
                code="dev-folder",
            ) from None

    def _check_name(self) -> None:
        # The path must be valid in a launcher's first line and in a server's configuration.
        if not str(self.root).isprintable():
            raise UsageError(
                f"the dev stack's folder cannot be made: {self.root}",
                why="its path is not UTF-8 text, or contains unprintable characters",
                fix=f"name another folder in {DEV_DIR_VARIABLE}, such as ~/.dev",
                code="dev-folder",
            )

    def check(self) -> None:
        """Refuse a folder that may not be used; a missing one is no error.

        Raises:
            RefusedError: it is a link, another user's or not the dev stack's.
        """
        self.check_owner()
        if os.path.lexists(self.root) and not self.ours:
            raise self.foreign()

    def check_owner(self) -> None:
        """Refuse a folder that another user could have placed there.

        Raises:
            RefusedError: it is a link, no folder, or another user's.
        """
        for folder in self._own_folders():
            self._check_one(folder)

    def _check_one(self, folder: Path) -> None:
        if os.path.lexists(folder) and not is_private_folder(folder):
            raise self.planted(folder, "it is a link, not a folder, or another user's")

    def _claim(self) -> None:
        """Make the folder and its marker; the second of two concurrent commands finds the
        marker."""
        for folder in self._own_folders():
            self._check_one(folder)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not self.ours:
                self._mark_as_ours()
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)

    def _mark_as_ours(self) -> None:
        # A start that is killed here leaves an anchor and drafts, and can be continued.
        if any(not _is_mark(entry.name) for entry in self.root.iterdir()):
            raise self.foreign()
        write_private(self._anchor, "")
        write_private(self.marker, self._mark())

    @property
    def _anchor(self) -> Path:
        return self.root / ".skyflowctl-dev-anchor"

    def _mark(self) -> str:
        info = self._anchor.lstat()
        return f"{info.st_ino} {info.st_ctime_ns}\n"

    def _own_folders(self) -> tuple[Path, ...]:
        """The folders that a clone could contain: the root, and the ``.skyflowctl`` around it."""
        above = self.root.parent
        return (above, self.root) if above.name == ".skyflowctl" else (self.root,)

    def _make_sockets(self) -> None:
        try:
            make_private_folder(self.sockets)
        except OSError as error:
            raise RefusedError(
                f"the folder for plugin sockets cannot be used: {self.sockets}",
                why=os_reason(error),
                fix=f"remove it, or name a shorter folder in {DEV_DIR_VARIABLE}, such as ~/.dev",
                code="dev-sockets",
            ) from None

    def planted(self, path: Path, reason: str) -> RefusedError:
        """Return the refusal of a folder with content that its user did not create."""
        return RefusedError(
            f"{path} is not the dev stack's own",
            why=f"{reason}; it may have come with a cloned repository",
            fix=f"look at it and remove it: rm -r {shlex.quote(str(path))}",
            code="planted-path",
        )

    def foreign(self) -> RefusedError:
        """Return the refusal to touch a folder that the dev stack did not make."""
        return RefusedError(
            f"{self.root} is not a folder of the dev stack",
            why="its marker does not match: it came with a clone or a copy, was restored or "
            "changed, or is used for something else",
            fix=f"name an empty or a new folder in {DEV_DIR_VARIABLE}; or, if a dev stack was "
            "created here, run 'skyflowctl dev down' and remove the folder",
            code="foreign-folder",
        )

    def _folders(self) -> tuple[Path, ...]:
        names = ("secrets", "tls", "plugins", "logs", "emulator", "credentials")
        return tuple(self.root / name for name in names)


def _is_mark(name: str) -> bool:
    return name.lstrip(".").startswith("skyflowctl-dev")


def find_layout(environ: Mapping[str, str], cwd: Path | None = None) -> DevLayout:
    """Return the layout of $SKYFLOWCTL_DEV_DIR, else of ``.skyflowctl/dev`` here."""
    named = environ.get(DEV_DIR_VARIABLE)
    root = Path(named) if named else (cwd or Path.cwd()) / ".skyflowctl" / "dev"
    return DevLayout(root.absolute())


def ensure_secret(path: Path, prefix: str = "") -> str:
    """Return a file's secret, generated at the first call: the prefix and 64 hex digits."""
    if not path.exists():
        write_private(path, prefix + secrets.token_hex(32))
    return read_private(path).strip()
