"""What ``doctor`` says of a 403: the rule that a policy of this login lacks, and the command."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from skyflowctl.doctor.model import Diagnosis
from skyflowctl.hcl import policy_rule, rules_to_add
from skyflowctl.vault.errors import ForbiddenError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.permissions import missing_permissions, naming_missing_rules

_WRITE_POLICY = "\nbao policy write NAME FILE"
_OF_A_RULE = " { capabilities = ["
_LOG_IN = "use a valid token: bao login, or with a context: skyflowctl login"


@contextmanager
def naming_commands(gateway: Gateway) -> Iterator[None]:
    """Let a 403 that ends the block name what a policy lacks; of a dead token, how to log in."""
    try:
        with naming_missing_rules(gateway, _WRITE_POLICY):
            yield
    except ForbiddenError as error:
        problem = error.problems[0]
        if problem.code == error.default_code and not error.by_policy:
            error.problems = (replace(problem, fix=_LOG_IN),)
        raise


def allow(gateway: Gateway, path: str, rights: Sequence[str]) -> str:
    """Return how a policy gives this login rights, and keeps those that it has at the path.

    Raises:
        VaultError: the token is not valid, or the server does not answer.
    """
    try:
        missing = missing_permissions(gateway.sys, ((path, one) for one in rights))
    except ForbiddenError as error:
        if not error.by_policy:
            raise
        missing = ()
    return allowing(missing[0].hcl if missing else policy_rule(path, rights))


def with_command(found: Diagnosis) -> Diagnosis:
    """Return a finding whose fix, if it is the rule for a policy alone, also has the command."""
    return replace(found, fix=found.fix + (_WRITE_POLICY if _OF_A_RULE in found.fix else ""))


def allowing(rule: str) -> str:
    """Return how a policy gets a rule."""
    return f"{rules_to_add(rule)}{_WRITE_POLICY}"
