"""Warns about logins, groups and certificates that need something which is not there."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from skyflowctl.errors import Problem
from skyflowctl.manifest.messages import did_you_mean
from skyflowctl.planner.desired import DesiredObject, granted_policies
from skyflowctl.planner.plan import TYPE_DIFFERS, ObjectKind
from skyflowctl.vault.access_api import policy_path
from skyflowctl.vault.live import LiveAccess, is_login_role, login_role_parts


def missing_policies(desired: Sequence[DesiredObject], live: LiveAccess) -> Iterator[Problem]:
    """Yield a warning for each policy of a login that neither manifest nor server has."""
    if policy_path("").rstrip("/") in live.unread:
        return
    prefix = policy_path("")
    known = {one.path.removeprefix(prefix) for one in desired if one.kind is ObjectKind.POLICY}
    known |= {"default", *live.policies}
    for one in desired:
        for name in granted_policies(one):
            if name.lower() not in known:
                yield Problem(
                    "unknown-policy",
                    f"{one.name} has the policy {name}, which does not exist",
                    "neither the manifest nor the server has it, so it permits nothing",
                    did_you_mean(name, known) or "declare it below policies",
                    one.where,
                )


def method_problem(
    one: DesiredObject, live: LiveAccess, planned: Mapping[str, DesiredObject]
) -> Problem | None:
    """Return why there can be no usable login method for an object, or None."""
    method = login_role_parts(one.path)[0] if one.kind is ObjectKind.LOGIN_ROLE else ""
    if one.kind is ObjectKind.GROUP:
        method = one.fields.get("alias.login_method", "")
    if not method or "sys/auth" in live.unread:
        return None
    found = live.login_methods.get(method)
    if found is None and f"sys/auth/{method}" not in planned:
        return Problem(
            "login-method-missing",
            f"{one.path} cannot be written: the server has no login method {method}",
            "the manifest declares none either",
            f"add it to the manifest:  auth: {{{method}: {{}}}}",
            one.where,
        )
    declared = planned.get(f"sys/auth/{method}")
    wanted = str(declared.fields["type"]) if declared else method
    if one.kind is ObjectKind.LOGIN_ROLE and found is not None and found.type != wanted:
        return of_other_type(one, f"type {found.type!r}", wanted)
    return None


def certificate_problem(one: DesiredObject) -> Problem | None:
    """Return why a login by certificate cannot be created, or None."""
    if not is_login_role(one.path) or "/certs/" not in one.path or "certificate" in one.fields:
        return None
    method, name = login_role_parts(one.path)
    return Problem(
        "certificate-missing",
        f"{one.path} cannot be created: no authority issues its client certificates",
        f"neither {name} nor the login method {method} has a certificate in the manifest",
        f"add it to the manifest:  auth: {{{method}: {{certificate: {{file: clients-ca.pem}}}}}}",
        one.where,
    )


def signer_problem(
    one: DesiredObject, live: LiveAccess, declared: Collection[str]
) -> Problem | None:
    """Return why an intermediate certificate cannot be signed, or None.

    Args:
        one: any object.
        live: the server's engines.
        declared: the paths of the pki engines that the manifest declares.
    """
    signer = one.fields.get("signed_by")
    if one.kind is not ObjectKind.OBJECT or not signer or signer in declared:
        return None
    found = live.engines.get(signer)
    if found is not None and found.type == "pki":
        return None
    state = f"is of type {found.type!r}" if found else "is not there"
    known = {*declared, *(path for path, there in live.engines.items() if there.type == "pki")}
    return Problem(
        "signer-missing",
        f"{one.path} cannot be signed: the engine {signer} {state}",
        f"neither the manifest nor the server has a pki engine at {signer}",
        did_you_mean(signer, known)
        or f"add it to the manifest:  engines: {{{signer}: "
        "{type: pki, root: {common_name: NAME}}}",
        one.where,
    )


def of_other_type(one: DesiredObject, live: str, wanted: str) -> Problem:
    """Return the warning that an engine or login method is of another type.

    Args:
        one: what the manifest declares.
        live: the kind of difference and what is live: ``type 'ssh'`` or ``version 1``.
        wanted: what the manifest says instead.
    """
    what = "secrets engine" if one.kind is ObjectKind.ENGINE else "login method"
    there = live.partition(" ")[2].strip("'")
    return Problem(
        TYPE_DIFFERS,
        f"{one.name} cannot be written: the {what} there is of {live}, "
        f"the manifest says {wanted!r}",
        f"the type of a {what} cannot be changed in place",
        did_you_mean(wanted, [there])
        or f"use another name in the manifest, or move the other {what} away",
        one.where,
    )
