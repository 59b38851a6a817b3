"""Reads the request of a ``rotate`` command line, and refuses contradictory flags."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from skyflowctl.cli.commands.rotate.options import CareOptions, OperatorOptions, RotateOptions
from skyflowctl.cli.options import span_seconds
from skyflowctl.errors import UsageError

if TYPE_CHECKING:
    from skyflowctl.manifest.model import Reference
    from skyflowctl.operations.rotate.request import RotateRequest
    from skyflowctl.rotation.model import Options

_ROTATE_ONLY = (
    "due", "everything", "dry_run", "credentials", "generate", "allow_different_account", "watch",
    "canary", "previous", "no_rollback", "retire_old",
)  # fmt: skip
_OF_RETIRE = ("now", "wait", "kept_copy_only", "allow_destroy")
_FLAGS = {"everything": "--all"}
_WAITS = "'--retire --wait' waits for the end of the old tokens of a rotation that was made"


def read_request(
    names: Sequence[str] | None,
    flags: RotateOptions,
    care: CareOptions,
    operator: OperatorOptions,
) -> "RotateRequest":
    """Return the request of a command line.

    Raises:
        UsageError: flags contradict each other, no mount is named, or a value is invalid.
    """
    from skyflowctl.operations.rotate.request import Verb

    mounts = tuple(names or ())
    _check_verb(flags)
    _check_mounts(mounts, flags)
    _check_successor(mounts, flags)
    verb = Verb.PREVIEW if flags.dry_run else Verb.ROTATE
    if flags.rollback or flags.retire:
        verb = Verb.ROLLBACK if flags.rollback else Verb.RETIRE
    return replace(
        operator_request(operator),
        verb=verb,
        names=mounts,
        every=flags.everything,
        only_due=flags.due,
        credentials=_reference(flags.credentials, "--credentials"),
        generate=flags.generate,
        options=_options(flags, care),
        previous=_reference(flags.previous, "--previous"),
        typed=(flags.credentials or "", flags.previous or ""),
        to=flags.to,
        now=flags.now,
        wait=flags.wait,
        kept_copy_only=flags.kept_copy_only,
        allow_destroy=frozenset(flags.allow_destroy or ()),
    )


def operator_request(operator: OperatorOptions) -> "RotateRequest":
    """Return a request that only names the operator of the keys at Skyflow.

    Raises:
        UsageError: a reference is invalid.
    """
    from skyflowctl.operations.rotate.request import RotateRequest

    return RotateRequest(
        operator_token=_reference(operator.operator_token, "--operator-token"),
        account_id=operator.account_id or "",
        management_host=operator.management_host or "",
    )


def _reference(text: str | None, flag: str) -> "Reference | None":
    from skyflowctl.credentials.references import parse_reference

    return None if text is None else parse_reference(text, flag)


def _options(flags: RotateOptions, care: CareOptions) -> "Options":
    from skyflowctl.rotation.model import Options

    default = Options()
    return Options(
        watch=_span(flags.watch, "--watch", default.watch),
        canaries=tuple(flags.canary or ()),
        allow_different_account=flags.allow_different_account,
        no_rollback=flags.no_rollback,
        unverified_nodes=care.allow_unverified_nodes,
        allow_revoked=frozenset(care.allow_revoked_key or ()),
        stale_after=_span(care.stale_after, "--stale-after", default.stale_after),
        retire_old=flags.retire_old,
    )


def _check_verb(flags: RotateOptions) -> None:
    if flags.rollback and flags.retire:
        raise _contradiction(
            "--rollback and --retire",
            "one makes the old key live again, the other destroys it",
            "give the one that you mean",
        )
    if flags.retire and flags.retire_old:
        raise _contradiction(
            "--retire and --retire-old", "--retire-old rotates first, and --retire does not", _WAITS
        )
    for verb in ("rollback", "retire"):
        given = [_flag(one) for one in _ROTATE_ONLY if getattr(flags, one)]
        if flags.retire and "--all" in given:
            given.remove("--all")
        if getattr(flags, verb) and given:
            raise _contradiction(
                f"--{verb} and {given[0]}",
                f"{given[0]} is about a rotation, and --{verb} does not rotate",
                f"leave out one of the two; --{verb} takes the mounts by name"
                + (" or --all" if flags.retire else ""),
            )
    _check_belongs(flags, "rollback", ("to",))
    _check_belongs(flags, "retire", _OF_RETIRE)
    if flags.wait and flags.now:
        raise _contradiction(
            "--wait and --now",
            "one waits for the end of the old tokens, the other does not",
            "give the one that you mean",
        )
    if flags.allow_destroy and not flags.now:
        raise _needs("--allow-destroy", "--now", "a retirement that waits does not need it")


def _check_belongs(flags: RotateOptions, verb: str, own: Sequence[str]) -> None:
    given = [_flag(one) for one in own if getattr(flags, one)]
    if given and not getattr(flags, verb):
        raise _needs(given[0], f"--{verb}", "it says how that is done")


def _check_mounts(mounts: Sequence[str], flags: RotateOptions) -> None:
    ways: Mapping[str, bool] = {
        "MOUNT": bool(mounts),
        "--all": flags.everything,
        "--due": flags.due,
    }
    said = [way for way, given in ways.items() if given]
    if not said:
        raise UsageError(
            "no mount is named",
            why="rotate changes only mounts that are named",
            fix="name mounts, or give --all or --due",
            code="no-mount",
        )
    if len(said) > 1:
        raise _contradiction(
            " and ".join(said), "each of them says which mounts are meant", "give one of them"
        )
    if flags.to is not None and len(mounts) > 1:
        raise _contradiction(
            "--to and several mounts",
            "each mount counts its own credential versions",
            "roll them back one by one",
        )


def _check_successor(mounts: Sequence[str], flags: RotateOptions) -> None:
    if flags.credentials is not None and flags.generate:
        raise _contradiction(
            "--credentials and --generate",
            "one names the new key, the other has it made",
            "give one of them",
        )
    if flags.previous is not None and flags.no_rollback:
        raise _contradiction(
            "--previous and --no-rollback",
            "one gives the credential to roll back to, the other does without it",
            "give one of them",
        )
    for flag, value in (("--credentials", flags.credentials), ("--previous", flags.previous)):
        if value is not None and len(mounts) != 1:
            raise _contradiction(
                f"{flag} and several mounts",
                "one key belongs to one service account, and so to one mount",
                "name one mount, or let the manifest say each mount's reference",
            )


def _span(text: str | None, flag: str, default: timedelta) -> timedelta:
    return default if text is None else timedelta(seconds=span_seconds(text, flag))


def _flag(name: str) -> str:
    return _FLAGS.get(name) or "--" + name.replace("_", "-")


def _contradiction(what: str, why: str, fix: str) -> UsageError:
    return UsageError(f"{what} contradict each other", why=why, fix=fix, code="contradiction")


def _needs(flag: str, other: str, why: str) -> UsageError:
    return UsageError(
        f"{flag} is only for {other}",
        why=why,
        fix=f"add {other}, or leave out {flag}",
        code="contradiction",
    )
