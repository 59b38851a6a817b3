"""Asks the server what a login may do, before a command writes.

The answer is necessary, not sufficient: it does not cover rules about parameters, control groups
and quotas. A path under a control group lists all of its capabilities.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from skyflowctl.errors import NotPermittedError, Problem
from skyflowctl.frozen import dataclass
from skyflowctl.hcl import policy_rule, rules_to_add
from skyflowctl.text import counted
from skyflowctl.vault.audit_devices import AUDIT_DEVICES
from skyflowctl.vault.errors import BadRequestError, ForbiddenError, NotFoundError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.system_api import SystemApi

MISSING_PERMISSIONS = "missing-permissions"
NOT_COVERED = "rules about parameters, control groups and quotas are not covered"
ANY_WRITE = "create|update"
"""Either of both: only the engine knows whether it tells new objects from changed ones."""

ANYTHING = "create|read|update|patch|delete|list|scan|sudo|subscribe|recover"
"""Any right at all, of either server."""

SERVERS_OWN = ("sys/", "identity/")
"""Below these, the server knows no ``create``."""

_CAPABILITIES = {"GET": "read", "DELETE": "delete", "PATCH": "patch"}
_ROOT_PATHS = ("sys/auth/", "sys/audit/", "sys/config/auditing/", "sys/plugins/catalog/")
_ORDER = ("create", "read", "update", "patch", "delete", "list", "scan", "sudo")
_NAMED = 3

Need = tuple[str, str]
"""A path, and one capability there, or several of which one is enough (``create|update``)."""


@dataclass(frozen=True, slots=True)
class MissingPermission:
    """A path at which this login lacks a capability.

    Args:
        path: the API path.
        missing: what it lacks.
        rule: all that the rule for the path must list. The most exact rule of a path counts
            alone, so it lists again what another rule gives now.
    """

    path: str
    missing: tuple[str, ...]
    rule: tuple[str, ...]

    @property
    def hcl(self) -> str:
        """The rule for a policy, in one line."""
        return policy_rule(self.path, self.rule)


def missing_permissions(system: SystemApi, needs: Iterable[Need]) -> tuple[MissingPermission, ...]:
    """Return what this login lacks, by path; one request for 500 paths.

    The server's own paths that only root may write need ``sudo`` too, which is added.

    Raises:
        VaultError: the server does not answer the question, or does not let this login ask.
    """
    wanted: dict[str, set[str]] = {}
    for path, words in needs:
        wanted.setdefault(path, set()).add(words)
        if path.startswith(_ROOT_PATHS) or path in {AUDIT_DEVICES, "sys/remount"}:
            wanted[path].add("sudo")
    held: Mapping[str, Sequence[str]] = system.capabilities(sorted(wanted)) if wanted else {}
    found = (_missing(path, words, held[path]) for path, words in sorted(wanted.items()))
    return tuple(one for one in found if one)


def _missing(path: str, needed: set[str], held: Iterable[str]) -> MissingPermission | None:
    has = set(held) - {"deny"}
    lacks = {one for one in needed if has.isdisjoint(one.split("|"))}
    if not lacks or "root" in has:
        return None
    words = {word for one in lacks for word in one.split("|")}
    return MissingPermission(path, _sorted(words), _sorted(words | has))


def _sorted(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(words, key=lambda one: (*_ORDER, one).index(one)))


def permission_problems(
    gateway: Gateway, works: Mapping[str, Sequence[Need]]
) -> dict[str, Problem]:
    """Return what this login lacks for each work, or why that is unknown; asked for all at once.

    Args:
        gateway: the server.
        works: all that each work does, by what it is called: ``the plan``.
    """
    needs = [need for every in works.values() for need in every]
    try:
        missing = {one.path: one for one in missing_permissions(gateway.sys, needs)}
    except (BadRequestError, ForbiddenError, NotFoundError) as error:
        return {work: _unknown(work, error.problems[0]) for work, every in works.items() if every}
    found = {}
    for work, every in works.items():
        lacks = [missing[path] for path in sorted({path for path, _ in every} & missing.keys())]
        if lacks:
            found[work] = _problem(lacks, work, gateway.transport.server.name)
    return found


def refuse_without_permission(
    gateway: Gateway, needs: Iterable[Need], work: str
) -> tuple[Problem, ...]:
    """Refuse work that this login may not do as a whole; nothing is asked if it does nothing.

    Returns:
        A warning if the login may not ask what it may do.

    Raises:
        NotPermittedError: permissions are missing.
    """
    problems = tuple(permission_problems(gateway, {work: list(needs)}).values())
    if any(one.code == MISSING_PERMISSIONS for one in problems):
        raise NotPermittedError.of(problems)
    return problems


@contextmanager
def naming_missing_rules(gateway: Gateway, then: str = "") -> Iterator[None]:
    """Let a 403 that ends the block say which rules a policy lacks; it costs a request then alone.

    Commands whose first write is their only one need no question before it.

    Args:
        gateway: the server.
        then: what the fix says after the rules.
    """
    try:
        yield
    except ForbiddenError as error:
        (problem, *more) = error.problems
        if error.by_policy and problem.code == error.default_code and not more:
            with suppress(VaultError):
                if missing := missing_permissions(gateway.sys, _needs(error.method, error.path)):
                    error.problems = (replace(problem, fix=_fix(missing) + then),)
        raise


def _needs(method: str, path: str) -> Iterator[Need]:
    """Yield what a refused request needed; its write may have been of a new or an old object."""
    if method == "LIST":
        yield f"{path.rstrip('/')}/", "list"
    elif method in _CAPABILITIES:
        yield path, _CAPABILITIES[method]
    else:
        yield path, "update"
        if not path.startswith(SERVERS_OWN):
            yield path, "create"


def _fix(missing: Iterable[MissingPermission]) -> str:
    return rules_to_add(*(one.hcl for one in missing))


def _problem(missing: Sequence[MissingPermission], work: str, server: str) -> Problem:
    named = [f"{one.path} ({', '.join(one.missing)})" for one in missing[:_NAMED]]
    more = f" and {counted(len(missing) - _NAMED, 'more path')}" if len(missing) > _NAMED else ""
    return Problem(
        MISSING_PERMISSIONS,
        f"this login may not do all of {work} on {server}: it lacks {', '.join(named)}{more}",
        f"sys/capabilities-self says so; {NOT_COVERED}",
        _fix(missing),
    )


def _unknown(work: str, cause: Problem) -> Problem:
    path = "sys/capabilities-self"
    return Problem(
        "permissions-unknown",
        f"it is unknown whether this login may do all of {work}",
        f"the server does not answer at {path}: {cause.summary}",
        rules_to_add(policy_rule(path, ("update",))),
    )
