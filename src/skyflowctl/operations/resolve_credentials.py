"""Resolves the references of a plan to identities, and finds those that cannot be resolved."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from skyflowctl.credentials.errors import (
    ReferenceNotAllowedError,
    ServerFileReferenceError,
    UnresolvedReferenceError,
)
from skyflowctl.credentials.model import CredentialId, CredentialSource
from skyflowctl.errors import InvalidInputError, Problem, RefusedError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import FieldSource, Mount, Reference
from skyflowctl.planner.messages import invalid
from skyflowctl.planner.plan import Action, ObjectKind, Plan
from skyflowctl.vault.live import LiveState


@dataclass(frozen=True, slots=True)
class ResolvedIdentities:
    """The credentials that were resolved, by mount name."""

    identities: Mapping[str, CredentialId | None]
    reasons: Mapping[str, str]
    invalid: Mapping[str, Problem]


def resolve_identities(
    mounts: Sequence[Mount], live: LiveState, credentials: CredentialSource
) -> ResolvedIdentities:
    """Resolve each mount's credential; an invalid one does not stop the others.

    Raises:
        InvalidInputError: all are invalid, or a mount has no credential to keep; holds all of
            their problems.
        RefusedError: the command line does not allow all references.
    """
    _check_kept(mounts, live)
    identities: dict[str, CredentialId | None] = {}
    reasons: dict[str, str] = {}
    errors: dict[str, InvalidInputError] = {}
    refused: list[Problem] = []
    declared = [mount for mount in mounts if mount.credentials is not None]
    for mount in declared:
        try:
            identities[mount.name] = credentials.identify(mount.name, _live(live, mount.path))
        except ServerFileReferenceError:
            # Only the engine reads it; the planner uses the reference itself.
            identities[mount.name] = None
        except ReferenceNotAllowedError as error:
            refused += error.problems
        except UnresolvedReferenceError as error:
            identities[mount.name] = None
            reasons[mount.name] = error.problems[0].why
        except InvalidInputError as error:
            identities[mount.name] = None
            errors[mount.name] = error
    if refused:
        raise RefusedError.of(refused)
    # A mount that names no credential may have changes too.
    if errors and len(errors) == len(mounts):
        raise InvalidInputError.of(
            problem for error in errors.values() for problem in error.problems
        )
    broken = {
        mount.name: invalid(mount, errors[mount.name].problems)
        for mount in declared
        if mount.name in errors
    }
    return ResolvedIdentities(identities, reasons, broken)


def _live(live: LiveState, path: str) -> CredentialId | None:
    there = live.engines.get(path)
    if there is None or not there.config.configured:
        return None
    return CredentialId(there.config.client_id, there.config.key_id)


def _check_kept(mounts: Sequence[Mount], live: LiveState) -> None:
    """Refuse ``credentials: {live: true}`` on a mount without a credential.

    Raises:
        InvalidInputError: with each such mount. A mount that could not be read is not refused.
    """
    bare = [
        Problem(
            "no-live-credential",
            f"{mount.path} has no credential to keep",
            "credentials: {live: true} keeps the live credential, and there is none",
            "name one, such as credentials: {file: credentials/NAME.json}",
            mount.where,
        )
        for mount in mounts
        if mount.keeps_credential
        and mount.path not in live.problems
        and not _live(live, mount.path)
    ]
    if bare:
        raise InvalidInputError.of(bare)


def with_unresolved_secrets(made: Plan, credentials: CredentialSource) -> Plan:
    """Warn about references of secrets that must be written and cannot be resolved here.

    A reference of a field that exists is not followed.
    """
    found = [
        _unresolved(action.path, name, source, credentials)
        for action in made.actions
        for name, source in _sources(action).items()
        if isinstance(source, Reference)
    ]
    return replace(made, warnings=(*made.warnings, *(one for one in found if one)))


def _sources(action: Action) -> Mapping[str, FieldSource]:
    """Return the sources of the secret fields that an action writes."""
    if action.kind is ObjectKind.SECRET:
        found: Mapping[str, FieldSource] = action.body.get("data", {})  # none if it is deleted
        return found
    return action.body.get("secret", {}) if action.is_by_path else {}


def _unresolved(
    path: str, name: str, source: Reference, credentials: CredentialSource
) -> Problem | None:
    try:
        credentials.secret(source, f"{name} of {path}")
    except UnresolvedReferenceError as error:
        return replace(error.problems[0], code="secret-unresolved")
    return None
