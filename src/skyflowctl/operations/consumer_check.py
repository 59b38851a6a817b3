"""Proves what a consumer's login may do: logs in as it, asks the server, and logs out.

Every question is one about capabilities or rules, so no token is minted and no read is denied.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from skyflowctl.errors import Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Consumer, Manifest, Role
from skyflowctl.operations.consumer_login import By, LoginProof, check_proof, logged_in
from skyflowctl.operations.consumers import checked_role
from skyflowctl.planner.desired import SIGN_PARAMETERS
from skyflowctl.posture.acl import matches_segments
from skyflowctl.posture.policies import PathRule, parse_policy
from skyflowctl.vault.errors import ForbiddenError, VaultError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import login_role_path
from skyflowctl.vault.permissions import ANYTHING, Need, missing_permissions
from skyflowctl.vault.transport import Request

Answer = Literal["allow", "deny"]
_NOWHERE = "skyflowctl-check"  # a name that no one uses
_NOTHING = frozenset({"deny"})


@dataclass(frozen=True, slots=True)
class AccessCheck:
    """One question and the server's answer.

    Args:
        path: below ``/v1/``.
        request: ``any``, or which ctx the request has: ``without ctx``, ``other ctx``.
    """

    path: str
    request: Literal["any", "without ctx", "other ctx"]
    expected: Answer
    got: Answer

    @property
    def ok(self) -> bool:
        """Whether the answer is the expected one."""
        return self.expected == self.got


@dataclass(slots=True)
class ConsumerReport:
    """The checks of one consumer.

    Args:
        checks: the questions and answers.
        warnings: what could not be asked.
        by: how the answers were found: by the consumer's own login, or with its policies alone.
    """

    checks: list[AccessCheck] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    by: By = "login"


def check_consumer(
    gateway: Gateway, manifest: Manifest, consumer: Consumer, proof: LoginProof
) -> ConsumerReport:
    """Log in as a consumer, and ask what the login may do.

    Raises:
        RefusedError: the consumer cannot log in from this machine.
        UsageError: the consumer takes no such proof.
    """
    report = ConsumerReport()
    check_proof(consumer, proof)
    role = checked_role(gateway, manifest, consumer)
    own = _own_rules(gateway, manifest, consumer)
    denied = [
        path
        for path in _denied_paths(gateway, manifest, consumer, report)
        if not any(_covers(rule, path) for rule in own)
    ]
    by_default = _default_rules(gateway, report)
    with logged_in(gateway, consumer, role, proof, report.warnings) as (login, by):
        report.by = by
        report.checks += _own_checks(login, own)
        report.checks += [
            one
            for one in _asked(login, manifest, consumer, denied, by_default)
            if not any(_same(one.path, rule) for rule in own)
        ]
    return report


def _asked(
    login: Gateway,
    manifest: Manifest,
    consumer: Consumer,
    denied: Sequence[str],
    by_default: Sequence[PathRule] | None,
) -> Iterator[AccessCheck]:
    granted = dict(_granted(manifest, consumer))
    needs = [(path, "update") for path in granted]
    needs += [(path, "read") for path in granted if not _is_sign(path)]
    lacking = _lacking(login, [*needs, *((path, ANYTHING) for path in denied)])
    data = login.transport.send(Request("GET", "sys/internal/ui/resultant-acl")).data or {}
    exact: Mapping[str, Any] = data.get("exact_paths") or {}
    for path, role in granted.items():
        yield AccessCheck(path, "any", "allow", "deny" if path in lacking else "allow")
        yield from _ctx_checks(path, role, exact.get(path) or {})
    for path in denied:
        yield AccessCheck(path, "any", "deny", "deny" if path in lacking else "allow")
    asked = {*granted, *denied}
    rules = {**exact, **{f"{path}*": one for path, one in (data.get("glob_paths") or {}).items()}}
    for path, rule in sorted(rules.items()):
        allowed = set(rule.get("capabilities") or ()) - _NOTHING
        if path not in asked and allowed and not _of_default(path, by_default):
            yield AccessCheck(path, "any", "deny", "allow")


def _own_rules(gateway: Gateway, manifest: Manifest, consumer: Consumer) -> tuple[PathRule, ...]:
    """Return the rules of the policies that the manifest gives to a login without roles."""
    texts = {one.name: one.text for one in manifest.policies if one.name in consumer.policies}
    others = set(consumer.policies) - texts.keys()
    live = gateway.sys.access.policies(others) if others else {}
    texts |= {name: one.text for name, one in live.items()}
    return tuple(rule for name, text in texts.items() for rule in parse_policy(name, text).rules)


def _own_checks(login: Gateway, rules: Sequence[PathRule]) -> Iterator[AccessCheck]:
    """Yield whether the login may do what these rules grant; only rules of one path are asked."""
    exact = {one.path: one for one in rules if not (one.is_glob or one.templated)}
    needs = [(path, word) for path, rule in exact.items() for word in rule.capabilities - _NOTHING]
    lacking = _lacking(login, needs)
    for path in exact:
        yield AccessCheck(path, "any", "allow", "deny" if path in lacking else "allow")


def _lacking(login: Gateway, needs: Sequence[Need]) -> set[str]:
    """Return the paths at which the login lacks something."""
    return {one.path for one in missing_permissions(login.sys, needs)}


def _covers(rule: PathRule, path: str) -> bool:
    if rule.has_segments:
        return matches_segments(rule.path, path)
    return path.startswith(rule.path) if rule.is_prefix else path == rule.path


def _ctx_checks(path: str, role: Role, rule: Mapping[str, Any]) -> Iterator[AccessCheck]:
    """Yield what the server's rule for the path says about requests that break the ctx rule."""
    allowed = rule.get("allowed_parameters") or {}
    if role.ctx.required:
        asks = "ctx" in (rule.get("required_parameters") or ())
        yield AccessCheck(path, "without ctx", "deny", "deny" if asks else "allow")
    if role.ctx.pattern:
        known = {"ctx", *SIGN_PARAMETERS} if _is_sign(path) else {"ctx"}
        only = set(allowed) == known and list(allowed["ctx"] or ()) == [role.ctx.pattern]
        yield AccessCheck(path, "other ctx", "deny", "deny" if only else "allow")


def _granted(manifest: Manifest, consumer: Consumer) -> Iterator[tuple[str, Role]]:
    for mount in manifest.mounts:
        for role in mount.roles:
            if (mount.name, role.name) in consumer.grants:
                yield f"{mount.path}/creds/{role.name}", role
                if role.sign:
                    yield f"{mount.path}/sign/{role.name}", role


def _is_sign(path: str) -> bool:
    return path.split("/")[-2] == "sign"


def _denied_paths(
    gateway: Gateway, manifest: Manifest, consumer: Consumer, report: ConsumerReport
) -> list[str]:
    """Return paths that the consumer must not use: every other role, each mount, the server's."""
    declared = {one.path: [role.name for role in one.roles] for one in manifest.mounts}
    kinds = dict.fromkeys(declared, manifest.plugin.name)
    try:
        kinds |= {path: one.type for path, one in gateway.sys.mounts().items()}
    except ForbiddenError as error:
        report.warnings.append(_not_asked("mounts that the manifest does not declare", error))
    login_role = login_role_path(consumer.method, consumer.name, consumer.type)
    paths = ["sys/mounts", "sys/auth", "sys/policies/acl", "auth/token/create", login_role]
    paths += [f"{login_role}/secret-id"] if consumer.type == "approle" else []
    for path, kind in sorted(kinds.items()):
        if kind == manifest.plugin.name:
            roles = {*declared.get(path, ()), *_live_roles(gateway, path, report)}
            paths += [f"{path}/{one}" for one in ("config", "config/verify", "config/rollback")]
            paths += [f"{path}/{one}/{role}" for role in sorted(roles) for one in _OF_A_ROLE]
            paths += [f"{path}/{one}/{_NOWHERE}" for one in ("creds", "sign")]
        elif kind not in {"system", "identity", "cubbyhole", "ns_cubbyhole", "ns_identity"}:
            paths += [f"{path}/{one}" for one in ("", _NOWHERE, f"data/{_NOWHERE}")]
    granted = dict(_granted(manifest, consumer))
    return [path for path in paths if path not in granted]


_OF_A_ROLE = ("creds", "sign", "roles")


def _live_roles(gateway: Gateway, path: str, report: ConsumerReport) -> Sequence[str]:
    try:
        return tuple(gateway.engine(path).roles())
    except VaultError as error:
        if not error.status:
            raise
        report.warnings.append(_not_asked(f"roles of {path} that only the server knows", error))
        return ()


def _default_rules(gateway: Gateway, report: ConsumerReport) -> tuple[PathRule, ...] | None:
    """Return the rules of the policy ``default``, which most logins have; None: unreadable."""
    try:
        policy = gateway.sys.access.policy("default")
    except ForbiddenError as error:
        report.warnings.append(_not_asked("rules for sys, auth and identity", error))
        return None
    return parse_policy("default", policy.text).rules if policy else ()


def _of_default(path: str, rules: Sequence[PathRule] | None) -> bool:
    """Whether a rule of a login is one of the policy ``default``."""
    if rules is None:
        return path.startswith(("sys/", "auth/", "identity/", "cubbyhole/"))
    return any(_same(path, rule) for rule in rules)


def _same(path: str, rule: PathRule) -> bool:
    before, template, _ = rule.text.removeprefix("/").partition("{{")
    if template:
        return path.startswith(before)
    return path == rule.text.removeprefix("/") or (
        rule.has_segments and matches_segments(rule.path, path)
    )


def _not_asked(what: str, error: VaultError) -> Problem:
    first = error.problems[0]
    return Problem("not-asked", f"not asked about {what}", first.summary, first.fix)
