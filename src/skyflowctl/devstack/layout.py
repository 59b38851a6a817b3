"""The dev stack's folder: where each generated thing lives, and how it is found again."""

import hashlib
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from skyflowctl.errors import Refused, UsageError

DEV_DIR_VARIABLE = "SKYFLOWCTL_DEV_DIR"

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
        """The token that opens the emulator's Management API, and nothing else. Secret."""
        return self.root / "secrets" / "skyflow-operator.token"

    @property
    def skyflow_account_id(self) -> Path:
        """The id of the emulator's Skyflow account, which such calls name."""
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
        """Where the stand-ins of the mounts' credentials are. Secret."""
        return self.root / "credentials"

    def credential(self, mount: str) -> Path:
        """The generated service-account key that stands in for a mount's own. Secret."""
        return self.credentials / f"{mount}.json"

    @property
    def sockets(self) -> Path:
        """Where plugin sockets go: in the folder, or in a short place if its path is long."""
        inside = self.root / "run"
        if len(os.fsencode(inside)) <= _LONGEST_SOCKET_FOLDER:
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"skyflowctl-{os.getuid()}-{digest}"

    @property
    def marker(self) -> Path:
        """Says that the folder was made by the dev stack, and that all in it is its own."""
        return self.root / ".skyflowctl-dev"

    @property
    def ours(self) -> bool:
        """Whether the dev stack made this folder."""
        return self.marker.is_file()

    def create(self) -> None:
        """Make the folders, closed to other users, and keep git away from them.

        Raises:
            Refused: the folder is there already, with files that are not the dev stack's.
            UsageError: it cannot be made.
        """
        try:
            if not self.ours and self.root.exists() and any(self.root.iterdir()):
                raise self.foreign()
            _make_private(self.root)
            # First of all, so that a start that is killed here can be gone on with.
            self.marker.touch(mode=0o600)
            for folder in (*self._folders(), self.sockets):
                _make_private(folder)
            (self.root / ".gitignore").write_text("*\n")
        except OSError as error:
            raise UsageError(
                f"the dev stack's folder cannot be made: {self.root}",
                why=error.strerror or type(error).__name__,
                fix=f"run this in a folder that you may write, or name one in {DEV_DIR_VARIABLE}",
                code="dev-folder",
            ) from None

    def foreign(self) -> Refused:
        """Return the refusal to touch a folder that the dev stack did not make."""
        return Refused(
            f"{self.root} is not a folder of the dev stack",
            why="it holds files and no .skyflowctl-dev, which dev up puts there",
            fix=f"name an empty or a new folder in {DEV_DIR_VARIABLE}",
            code="foreign-folder",
        )

    def _folders(self) -> tuple[Path, ...]:
        names = ("secrets", "tls", "plugins", "logs", "emulator", "credentials")
        return tuple(self.root / name for name in names)


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)


def find_layout(environ: Mapping[str, str], cwd: Path | None = None) -> DevLayout:
    """Return the layout of $SKYFLOWCTL_DEV_DIR, else of ``.skyflowctl/dev`` here."""
    named = environ.get(DEV_DIR_VARIABLE)
    root = Path(named) if named else (cwd or Path.cwd()) / ".skyflowctl" / "dev"
    return DevLayout(root.absolute())


def ensure_secret(path: Path, prefix: str = "") -> str:
    """Return the secret in a file, made up at the first call: the prefix and 64 hex digits."""
    if not path.exists():
        write_private(path, prefix + secrets.token_hex(32))
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
