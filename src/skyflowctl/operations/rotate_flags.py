"""What a command line may ask of a rotation, in few words and without heavy imports."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Reference


class Verb(StrEnum):
    """What is done with each mount."""

    ROTATE = "rotate"
    PREVIEW = "preview"
    ROLLBACK = "rollback"
    RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class RotateFlags:
    """What the command line says of a successor and of the operator; it wins."""

    credentials: "Reference | None" = None
    generate: bool = False
    operator_token: "Reference | None" = None
    account_id: str = ""
    management_host: str = ""

    @property
    def of_operator(self) -> bool:
        """True when the command line names an operator, or a part of what one needs."""
        return bool(self.operator_token or self.account_id or self.management_host)
