"""The options of ``plan`` and ``apply`` that permit what a plan otherwise refuses."""

from dataclasses import dataclass
from typing import Annotated

from skyflowctl.cli.options import AllowRevokedKeyOption, OptionGroup, option


@dataclass(frozen=True, slots=True)
class PermitOptions(OptionGroup):
    """What a plan may do that needs the caller's word."""

    replace_credential: Annotated[
        list[str] | None,
        option(
            "--replace-credential",
            help="Write the key of a mount that was cut off or has no history; repeatable.",
            metavar="MOUNT",
        ),
    ] = None
    allow_revoked_key: AllowRevokedKeyOption = None
    adopt: Annotated[
        list[str] | None,
        option(
            "--adopt",
            help="Take over this mount, role or config that others created; repeatable.",
            metavar="PATH",
        ),
    ] = None
    adopt_from: Annotated[
        list[str] | None,
        option(
            "--adopt-from",
            help="Allow --adopt to take over objects of this manifest; repeatable.",
            metavar="ID",
        ),
    ] = None
    allow_move: Annotated[
        list[str] | None,
        option(
            "--allow-move",
            help="Move the mount of this former path, as the manifest declares; repeatable.",
            metavar="PATH",
        ),
    ] = None
