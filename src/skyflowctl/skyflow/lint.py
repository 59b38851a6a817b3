"""The findings of a credential's lint, each with its fix and without secrets."""

from typing import Literal

from skyflowctl.frozen import dataclass

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class LintFinding:
    """One fault in a credential, or one that was repaired.

    Args:
        code: a stable kebab-case code for programs, such as ``key-expired``.
        level: an error refuses the credential, a warning does not.
        message: what was found, in one line, with no part of any value but a host's name.
        fix: what the reader can do, in one line.
    """

    code: str
    level: Level
    message: str
    fix: str


class InvalidCredentialError(Exception):
    """The text is not a usable service-account credential; ``findings`` has the errors."""

    def __init__(self, findings: tuple[LintFinding, ...]) -> None:
        super().__init__("; ".join(finding.message for finding in findings))
        self.findings = findings


class Findings:
    """Collects findings, so that a reader sees everything that is wrong at once."""

    def __init__(self) -> None:
        self._all: list[LintFinding] = []

    def error(self, code: str, message: str, fix: str) -> None:
        """Add a finding that refuses the credential."""
        self._all.append(LintFinding(code, "error", message, fix))

    def warning(self, code: str, message: str, fix: str) -> None:
        """Add a finding that does not."""
        self._all.append(LintFinding(code, "warning", message, fix))

    def warnings(self) -> tuple[LintFinding, ...]:
        """Return the warnings in the order in which they were found."""
        return tuple(finding for finding in self._all if finding.level == "warning")

    def raise_errors(self) -> None:
        """Stop here if there is any error.

        Raises:
            InvalidCredentialError: with every error found so far.
        """
        errors = tuple(finding for finding in self._all if finding.level == "error")
        if errors:
            raise InvalidCredentialError(errors)
