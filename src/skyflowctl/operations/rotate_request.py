"""What a command line asks of a rotation, as one value without heavy imports."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from skyflowctl.rotation.model import Options

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Reference


class Verb(StrEnum):
    """What is done with each mount."""

    ROTATE = "rotate"
    PREVIEW = "preview"
    ROLLBACK = "rollback"
    RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class RotateRequest:
    """What a command is to do with its mounts, from its flags to each mount's write.

    Args:
        verb: what.
        names: the mounts as they were given; empty with ``--all`` and ``--due``.
        every: ``--all``: a mount with nothing to do is fine.
        only_due: leave out the mounts that are not due.
        options: how; the margin of retirement is each mount's own.
        credentials: where the new credential is; wins over the manifest.
        generate: have Skyflow make the new key.
        previous: where the live credential is, for an engine that keeps no way back.
        typed: ``credentials`` and ``previous`` as they were typed, for commands to print.
        operator_token: where an operator's bearer token is.
        account_id: the Skyflow account's id.
        management_host: who else than Skyflow's own hosts may see that token.
        to: the credential version to roll back to; None: the one before.
        now: retire at once, though tokens of the old key live.
        wait: wait until they have ended.
        kept_copy_only: retire the engine's kept copy and leave the key at Skyflow.
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
        """True when the command line names an operator, or a part of what one needs."""
        return bool(self.operator_token or self.account_id or self.management_host)
