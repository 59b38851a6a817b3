"""The request of a rotation command, as one value without heavy imports."""

from dataclasses import field
from enum import StrEnum
from typing import TYPE_CHECKING

from skyflowctl.frozen import dataclass
from skyflowctl.rotation.model import Options

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Reference


class Verb(StrEnum):
    """The work on each mount."""

    ROTATE = "rotate"
    PREVIEW = "preview"
    ROLLBACK = "rollback"
    RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class RotateRequest:
    """The request of a rotation command, from its flags to each mount's write.

    Args:
        verb: the work on each mount.
        names: the given mounts; empty with ``--all`` and ``--due``.
        every: ``--all``: a mount without work is a success.
        only_due: leave out mounts that are not due.
        options: the rotation's options; each mount has its own retirement margin.
        credentials: reference to the new credential; overrides the manifest.
        generate: let Skyflow create the new key.
        previous: reference to the live credential, for an engine that keeps none.
        typed: ``credentials`` and ``previous`` as typed, for printed commands.
        operator_token: reference to an operator's bearer token.
        account_id: the Skyflow account's id.
        management_host: a host besides Skyflow's own that may get that token.
        to: the credential version to roll back to; None: the previous one.
        now: retire at once, although tokens of the old key are valid.
        wait: wait until those tokens have ended.
        kept_copy_only: destroy the engine's kept copy and leave the key at Skyflow.
        allow_destroy: paths of mounts whose old key may be destroyed early.
    """

    verb: Verb = Verb.ROTATE
    names: tuple[str, ...] = ()
    every: bool = False
    only_due: bool = False
    options: Options = field(default_factory=Options)
    credentials: "Reference | None" = None
    generate: bool = False
    previous: "Reference | None" = None
    typed: tuple[str, str] = ("", "")
    operator_token: "Reference | None" = None
    account_id: str = ""
    management_host: str = ""
    to: int | None = None
    now: bool = False
    wait: bool = False
    kept_copy_only: bool = False
    allow_destroy: frozenset[str] = frozenset()

    @property
    def names_operator(self) -> bool:
        """True if the command line names an operator, or a part of one."""
        return bool(self.operator_token or self.account_id or self.management_host)
