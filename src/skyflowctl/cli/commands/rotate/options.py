"""The options of ``rotate``, in the groups in which its help shows them."""

from typing import Annotated, ClassVar

from skyflowctl.cli.options import OptionGroup, option
from skyflowctl.frozen import dataclass

_NEW = "New credential"
_CARE = "Checks and pace"
_BACK = "Rollback and retirement"
_OPERATOR = "Keys at Skyflow"


@dataclass(frozen=True, slots=True)
class OperatorOptions(OptionGroup):
    """Who may manage the keys of a service account at Skyflow."""

    panel: ClassVar[str] = _OPERATOR
    repeated: ClassVar[bool] = True

    operator_token: Annotated[
        str | None,
        option(
            "--operator-token",
            help="An operator's bearer token, as a reference like --credentials.",
            panel=_OPERATOR,
            metavar="REF",
        ),
    ] = None
    account_id: Annotated[
        str | None,
        option("--account-id", help="The Skyflow account's id.", panel=_OPERATOR, metavar="ID"),
    ] = None
    management_host: Annotated[
        str | None,
        option(
            "--management-host",
            help="A host that may receive that token, besides Skyflow's management hosts.",
            panel=_OPERATOR,
            metavar="HOST:PORT",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class CareOptions(OptionGroup):
    """Checks that a rotation or rollback may skip, and how long it waits."""

    panel: ClassVar[str] = _CARE

    allow_unverified_nodes: Annotated[
        bool,
        option(
            "--allow-unverified-nodes",
            help="Continue even if some nodes cannot be verified.",
            panel=_CARE,
        ),
    ] = False
    allow_revoked_key: Annotated[
        list[str] | None,
        option(
            "--allow-revoked-key",
            help="Allow this key even if a cut-off revoked it; repeatable.",
            panel=_CARE,
            metavar="KEY_ID",
        ),
    ] = None
    stale_after: Annotated[
        str | None,
        option(
            "--stale-after",
            help="Take over an open rotation that made no progress this long (default 10s).",
            panel=_CARE,
            metavar="SPAN",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class RotateOptions(OptionGroup):
    """The options of ``rotate`` alone."""

    everything: Annotated[bool, option("--all", help="Every mount of the manifest or server.")] = (
        False
    )
    due: Annotated[
        bool, option("--due", help="The mounts that are due by the manifest's rotation rule.")
    ] = False
    dry_run: Annotated[
        bool, option("--dry-run", help="Verify what can be verified; write nothing.")
    ] = False
    credentials: Annotated[
        str | None,
        option(
            "--credentials",
            help="file:PATH, env:NAME or keyring:SERVICE/USERNAME; for one mount only.",
            panel=_NEW,
            metavar="REF",
        ),
    ] = None
    generate: Annotated[
        bool,
        option(
            "--generate",
            help="Have Skyflow create a key for the same service account.",
            panel=_NEW,
        ),
    ] = False
    allow_different_account: Annotated[
        bool,
        option(
            "--allow-different-account",
            help="Accept a key of another service account.",
            panel=_NEW,
        ),
    ] = False
    watch: Annotated[
        str | None,
        option(
            "--watch",
            help="Watch the new key on every node this long before the commit, such as 2m.",
            panel=_CARE,
            metavar="SPAN",
        ),
    ] = None
    canary: Annotated[
        list[str] | None,
        option(
            "--canary",
            help="A role whose token is read after the write; repeatable.",
            panel=_CARE,
            metavar="ROLE",
        ),
    ] = None
    rollback: Annotated[
        bool,
        option("--rollback", help="Make the previous key live again.", panel=_BACK),
    ] = False
    to: Annotated[
        int | None,
        option(
            "--to",
            help="With --rollback: a credential version in 'config history'.",
            panel=_BACK,
            metavar="V",
            min=1,
        ),
    ] = None
    previous: Annotated[
        str | None,
        option(
            "--previous",
            help="The live key as a reference, for rollback on an engine without history.",
            panel=_BACK,
            metavar="REF",
        ),
    ] = None
    no_rollback: Annotated[
        bool,
        option("--no-rollback", help="Accept an engine that cannot roll back.", panel=_BACK),
    ] = False
    retire: Annotated[
        bool,
        option(
            "--retire",
            help="Delete the old key at Skyflow and its kept copy, once its tokens expired.",
            panel=_BACK,
        ),
    ] = False
    retire_old: Annotated[
        bool,
        option(
            "--retire-old",
            help="Rotate, wait until the old tokens expire, then retire the old key.",
            panel=_BACK,
        ),
    ] = False
    wait: Annotated[
        bool,
        option(
            "--wait",
            help="With --retire: wait until the old tokens expire.",
            panel=_BACK,
        ),
    ] = False
    now: Annotated[
        bool,
        option(
            "--now",
            help="With --retire: do not wait; old tokens that are still valid are reported.",
            panel=_BACK,
        ),
    ] = False
    kept_copy_only: Annotated[
        bool,
        option(
            "--kept-copy-only",
            help="With --retire: keep the key at Skyflow, destroy the engine's copy.",
            panel=_BACK,
        ),
    ] = False
    allow_destroy: Annotated[
        list[str] | None,
        option(
            "--allow-destroy",
            help="With --now: the path of the mount whose old key may be destroyed now.",
            panel=_BACK,
            metavar="PATH",
        ),
    ] = None
