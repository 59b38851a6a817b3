"""The options of ``plan`` and ``apply`` that permit what a plan otherwise refuses."""

from typing import Annotated

from skyflowctl.cli.options import (
    APPROVAL_PANEL,
    AllowRevokedKeyOption,
    ApprovingTargetOptions,
    OptionGroup,
    option,
)
from skyflowctl.frozen import dataclass

PRUNE_PANEL = "Deletions"

AuditOption = Annotated[
    list[str] | None,
    option(
        "--audit",
        help="Audit log files, to show who used what is removed or changed: a path, a glob, "
        "NODE=PATH; repeatable.",
        metavar="PATTERN",
    ),
]


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
            help="Take over what others created: this mount, role, config, policy, login, engine "
            "or secret; repeatable.",
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
    prune: Annotated[
        bool,
        option(
            "--prune",
            help="Delete what this manifest made and no longer declares.",
            panel=PRUNE_PANEL,
        ),
    ] = False
    allow_destroy: Annotated[
        list[str] | None,
        option(
            "--allow-destroy",
            help="Let --prune delete this mount, login method, engine, secret or adopted object; "
            "repeatable.",
            panel=PRUNE_PANEL,
            metavar="PATH",
        ),
    ] = None
    allow_large_prune: Annotated[
        bool,
        option(
            "--allow-large-prune",
            help="Let --prune delete more than 30 % of a kind, or all of it.",
            panel=PRUNE_PANEL,
        ),
    ] = False
    allow_other_files: Annotated[
        bool,
        option(
            "--allow-other-files",
            help="Let --prune run with other manifest files than those that made the mounts.",
            panel=PRUNE_PANEL,
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class RequiringTargetOptions(ApprovingTargetOptions):
    """The server, and whether every write must need an approval."""

    require_approval: Annotated[
        bool,
        option(
            "--require-approval",
            help="Refuse (5) unless every write of the plan waits for an approval.",
            panel=APPROVAL_PANEL,
        ),
    ] = False
