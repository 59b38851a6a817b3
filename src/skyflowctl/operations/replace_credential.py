"""Replaces a live credential in ``apply``, by a rotation."""

from collections.abc import Callable
from dataclasses import field, replace

from skyflowctl.credentials.model import Credential
from skyflowctl.errors import (
    ExitCode,
    InvalidInputError,
    NotPermittedError,
    PartlyDoneError,
    Problem,
    RefusedError,
    SkyflowctlError,
    UnhealthyError,
    UnreachableError,
)
from skyflowctl.frozen import dataclass
from skyflowctl.rotation.model import MountOutcome, Options, Result, RotationJob, StepName
from skyflowctl.rotation.ports import Dependencies
from skyflowctl.rotation.rotate import rotate_mount
from skyflowctl.vault.gateway import Gateway

_KINDS: dict[ExitCode, type[SkyflowctlError]] = {
    kind.exit_code: kind
    for kind in (
        PartlyDoneError,
        NotPermittedError,
        RefusedError,
        UnhealthyError,
        InvalidInputError,
        UnreachableError,
    )
}
# The manifest declares the account, and the plan shows it. An engine that cannot roll back is
# accepted only with --replace-credential.
DECLARED = Options(allow_different_account=True, no_rollback=True)


@dataclass(frozen=True, slots=True)
class RotatingReplacer:
    """Verifies a credential before and after the write, on every node; a ``Replacer``.

    Args:
        make_dependencies: returns the services of a rotation for this gateway.
        options: how to rotate.
    """

    make_dependencies: Callable[[Gateway], Dependencies]
    options: Options = field(default=DECLARED)

    def replace(
        self,
        mount: str,
        path: str,
        credential: Credential,
        gateway: Gateway,
        *,
        allow_revoked: bool = False,
    ) -> tuple[Problem, ...]:
        """Rotate to the credential; see ``Replacer``."""
        allowed = frozenset({credential.key_id}) if allow_revoked else frozenset()
        job = RotationJob(mount, path, replace(self.options, allow_revoked=allowed))
        outcome = rotate_mount(job, lambda: credential, self.make_dependencies(gateway))
        said = _said(outcome)
        if outcome.to_key == credential.key_id:
            return said
        # It finished an earlier open rotation to another key.
        return (
            *said,
            *_said(rotate_mount(job, lambda: credential, self.make_dependencies(gateway))),
        )

    def finish(self, mount: str, path: str, gateway: Gateway) -> tuple[Problem, ...]:
        """Prove the live credential and commit its rotation; see ``Replacer``."""
        rotation = gateway.engine(path).config().rotation
        if rotation is None or rotation.state != "open":
            return ()  # another run has finished it since the plan was made
        job = RotationJob(mount, path, self.options)
        return _said(rotate_mount(job, None, self.make_dependencies(gateway)))


def _said(outcome: MountOutcome) -> tuple[Problem, ...]:
    """Return the warnings of a successful rotation.

    Raises:
        SkyflowctlError: it failed.
    """
    if outcome.result is not Result.ROTATED:
        raise _KINDS.get(outcome.exit_code, SkyflowctlError).of(outcome.problems)
    if not outcome.from_key:
        return outcome.warnings
    return (*outcome.warnings, _old_key(outcome))


def _old_key(outcome: MountOutcome) -> Problem:
    made = {step.name for step in outcome.steps}
    if StepName.WRITE in made and StepName.COMMIT not in made:
        return Problem(
            "old-key-valid",
            f"the replaced key {outcome.from_key} of {outcome.path} is still valid at Skyflow",
            "an apply deletes no key, and this engine keeps no record of it",
            "delete it in Skyflow Studio when its last tokens have ended, an hour from now",
        )
    until = outcome.old_tokens_valid_until or "their own end, at most an hour from now"
    return Problem(
        "old-key-valid",
        f"the replaced key {outcome.from_key} of {outcome.path} is still valid at Skyflow",
        f"an apply deletes no key; the tokens that were minted with it live until {until}",
        f"after that: 'skyflowctl rotate --retire {outcome.name}'",
    )
