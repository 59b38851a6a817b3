"""Checks a credential's text, and returns a credential or its errors."""

from collections.abc import Set as AbstractSet

from skyflowctl.clock import Clock
from skyflowctl.credentials.model import Credential, CredentialId
from skyflowctl.errors import InvalidInputError, Problem, Where
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.skyflow.credential_fields import read_fields
from skyflowctl.skyflow.lint import Findings, InvalidCredentialError, LintFinding
from skyflowctl.skyflow.service_account import ServiceAccount, parse_service_account
from skyflowctl.skyflow.strict_json import read_object


@dataclass(frozen=True, slots=True)
class CredentialLinter:
    """Checks credentials.

    Args:
        allowed_hosts: ``host:port`` of the token services that a credential may name.
        clock: gives the time for the check of a key's validity.
    """

    allowed_hosts: AbstractSet[str]
    clock: Clock

    def lint(self, text: Secret) -> tuple[ServiceAccount | None, tuple[LintFinding, ...]]:
        """Return the account with its warnings, or None with every error."""
        try:
            return parse_service_account(
                text.reveal(), allowed_hosts=self.allowed_hosts, now=self.clock.now()
            )
        except InvalidCredentialError as error:
            return None, error.findings

    def account(
        self, text: Secret, subject: str, where: Where | None = None
    ) -> tuple[ServiceAccount, tuple[Problem, ...]]:
        """Return a credential's text as a service account, with warnings.

        Args:
            text: the credential file as issued by Skyflow.
            subject: a description of it, for messages.
            where: its position in the user's file.

        Raises:
            InvalidInputError: contains every error.
        """
        account, findings = self.lint(text)
        problems = tuple(finding_problem(one, subject, where) for one in findings)
        if account is None:
            raise InvalidInputError.of(problems)
        return account, problems

    def check(self, text: Secret, subject: str, where: Where | None = None) -> Credential:
        """Return a credential that may be written; see :meth:`account`."""
        account, warnings = self.account(text, subject, where)
        return Credential(credential_id(account), account.to_json(), warnings)


def credential_id(account: ServiceAccount) -> CredentialId:
    """Return the credential id of a service account."""
    return CredentialId(account.client_id, account.key_id)


def unchecked_id(text: Secret) -> CredentialId | None:
    """Return the id without checking the key, or None if the text does not show it."""
    findings = Findings()
    try:
        fields = read_fields(read_object(text.reveal(), findings), findings)
    except InvalidCredentialError:
        return None
    if "clientID" not in fields or "keyID" not in fields:
        return None
    return CredentialId(fields["clientID"], fields["keyID"])


def finding_problem(finding: LintFinding, subject: str, where: Where | None) -> Problem:
    """Return a finding about a credential as a problem of this subject."""
    return Problem(
        finding.code,
        f"{subject}: {finding.message}",
        "a mount takes a service-account key just as Skyflow gave it out",
        finding.fix,
        where,
    )
