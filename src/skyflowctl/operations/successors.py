"""Credentials that are to become live: followed from a reference, and linted in full."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from skyflowctl.clock import Clock
from skyflowctl.errors import InvalidInputError, Problem, Where
from skyflowctl.manifest.model import Reference
from skyflowctl.operations.credentials import NOT_AS_GIVEN_OUT
from skyflowctl.rotation.model import NewCredential
from skyflowctl.secret import Secret
from skyflowctl.secretrefs.resolve import resolve
from skyflowctl.secretrefs.unresolved import UnresolvedReferenceError
from skyflowctl.skyflow.lint import InvalidCredentialError, LintFinding
from skyflowctl.skyflow.service_account import parse_service_account


@dataclass(frozen=True, slots=True)
class CredentialLinter:
    """How a credential is judged: the token services it may name, and the time."""

    allowed_hosts: AbstractSet[str]
    clock: Clock

    def check(self, text: Secret, subject: str, where: Where | None = None) -> NewCredential:
        """Return a credential's text as one that may be written.

        Args:
            text: as Skyflow gave it out.
            subject: what it is, for messages.
            where: its position in the user's file.

        Raises:
            InvalidInputError: with every finding.
        """
        try:
            account, warnings = parse_service_account(
                text.reveal(), allowed_hosts=self.allowed_hosts, now=self.clock.now()
            )
        except InvalidCredentialError as error:
            raise InvalidInputError.of(
                _problem(one, subject, where) for one in error.findings
            ) from None
        return NewCredential(
            account.client_id,
            account.key_id,
            account.to_json(),
            tuple(_problem(one, subject, where) for one in warnings),
        )


@dataclass(frozen=True, slots=True)
class ReferencedCredential:
    """The credential behind a reference; a ``FromReference``, followed at each call.

    Args:
        reference: where it is found.
        subject: what it is to the reader, such as ``the credential of order``.
        linting: how it is judged.
    """

    reference: Reference
    subject: str
    linting: CredentialLinter

    def __call__(self) -> NewCredential:
        """Return it; see ``FromReference``."""
        text = resolve_successor(self.reference, self.subject)
        return self.linting.check(text, self.subject, _place(self.reference))


def resolve_successor(reference: Reference, subject: str) -> Secret:
    """Return what a reference leads to.

    Raises:
        UnresolvedReferenceError: it leads to nothing; the text names the reference.
    """
    try:
        return resolve(reference.scheme, reference.target)
    except UnresolvedReferenceError as error:
        cause = error.problems[0]
        raise UnresolvedReferenceError(
            f"{subject} ({reference.text}) could not be resolved",
            why=f"{cause.summary}: {cause.why}" if cause.why else cause.summary,
            fix=cause.fix,
            code=cause.code,
            where=_place(reference),
        ) from None


def _place(reference: Reference) -> Where | None:
    return reference.where if reference.where.file else None


def _problem(finding: LintFinding, subject: str, where: Where | None) -> Problem:
    summary = f"{subject}: {finding.message}"
    return Problem(finding.code, summary, NOT_AS_GIVEN_OUT, finding.fix, where)
