"""Where a credential's text becomes a credential, or the list of what is wrong with it."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from skyflowctl.clock import Clock
from skyflowctl.credentials.model import Credential, CredentialId
from skyflowctl.errors import InvalidInputError, Problem, Where
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
        clock: against which a key's validity is judged.
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
            text: as Skyflow gave it out.
            subject: what it is, for messages.
            where: its position in the user's file.

        Raises:
            InvalidInputError: with every error.
        """
        account, findings = self.lint(text)
        problems = tuple(finding_problem(one, subject, where) for one in findings)
        if account is None:
            raise InvalidInputError.of(problems)
        return account, problems

    def check(self, text: Secret, subject: str, where: Where | None = None) -> Credential:
        """Return a credential's text as one that may be written; see :meth:`account`."""
        account, warnings = self.account(text, subject, where)
        return Credential(credential_id(account), account.to_json(), warnings)


def credential_id(account: ServiceAccount) -> CredentialId:
    """Return which credential a service account's is."""
    return CredentialId(account.client_id, account.key_id)


def unchecked_id(text: Secret) -> CredentialId | None:
    """Return the id without a look at the key, or None when it is not plain to see."""
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
