"""``validate``: checks all parts of a manifest that need no server."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

from skyflowctl.clock import Clock
from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.credentials.exposure import in_version_control, wider_than_owner
from skyflowctl.credentials.lint import CredentialLinter, finding_problem
from skyflowctl.credentials.schemes import env, file
from skyflowctl.errors import InvalidInputError, Problem
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.files import source_name
from skyflowctl.manifest.load import load_manifest
from skyflowctl.manifest.messages import did_you_mean, shown
from skyflowctl.manifest.model import Manifest, Reference
from skyflowctl.secret import Secret
from skyflowctl.skyflow.lint import LintFinding
from skyflowctl.skyflow.service_account import ServiceAccount
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of a validation.

    Args:
        manifest: the manifest; None: it cannot be read.
        resolved: how many references were resolved to a secret.
        problems: errors, in the order of the files and lines; any error means exit 65.
        warnings: warnings, in the same order.
    """

    manifest: Manifest | None
    resolved: int
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    @property
    def valid(self) -> bool:
        """True if there is no error."""
        return not self.problems

    def others(self) -> dict[str, int]:
        """Return the number of the other objects of each kind; of declared ones only."""
        if self.manifest is None:
            return {}
        found = Counter[str](
            engine=len(self.manifest.engines),
            secret=sum(len(engine.secrets) for engine in self.manifest.engines),
            policy=len(self.manifest.policies),
            login_method=len(self.manifest.login_methods),
            group=len(self.manifest.groups),
            login_role=len(self.manifest.consumers),
        )
        found.update(one.kind for one in self.manifest.objects)
        return {kind: number for kind, number in found.items() if number}

    def counts(self) -> dict[str, int]:
        """Return the numbers of ``mounts``, ``roles``, ``references`` and ``resolved``."""
        mounts = self.manifest.mounts if self.manifest else ()
        return {
            "mounts": len(mounts),
            "roles": sum(len(mount.roles) for mount in mounts),
            "references": len(self.manifest.references) if self.manifest else 0,
            "resolved": self.resolved,
        }


def validate(
    files: Sequence[str],
    *,
    environ: Mapping[str, str],
    clock: Clock,
    allowed_hosts: AbstractSet[str] = SKYFLOW_HOSTS,
    resolve: bool = True,
) -> Validation:
    """Check manifest files, and the credentials of ``file`` and ``env`` references.

    Args:
        files: as for :func:`skyflowctl.manifest.load.load_manifest`.
        environ: for ``${NAME}`` and for ``env`` references.
        clock: the time at which a key must be valid.
        allowed_hosts: token services, as ``host:port``, that a credential may name.
        resolve: False for the dev stack, where no reference is ever resolved.
    """
    try:
        loaded = load_manifest(files, environ=environ)
    except InvalidInputError as error:
        return Validation(None, 0, error.problems, ())
    check = _Check(environ, CredentialLinter(allowed_hosts, clock))
    if resolve:
        check.run(loaded.manifest)
    order = _order([source_name(file) for file in files])
    return Validation(
        manifest=loaded.manifest,
        resolved=check.resolved,
        problems=tuple(sorted(check.problems, key=order)),
        warnings=tuple(
            sorted(
                (
                    *loaded.warnings,
                    *check.warnings,
                    *_unknown_policies(loaded.manifest),
                    *_unknown_signers(loaded.manifest),
                ),
                key=order,
            )
        ),
    )


def _order(files: Sequence[str]) -> Callable[[Problem], tuple[int, int, int]]:
    def place(problem: Problem) -> tuple[int, int, int]:
        where = problem.where
        if where is None:
            return len(files), 0, 0
        file = files.index(where.file) if where.file in files else len(files)
        return file, where.line or 0, where.column or 0

    return place


class _Check:
    """Resolves a manifest's references and collects the problems."""

    def __init__(self, environ: Mapping[str, str], linter: CredentialLinter) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.resolved = 0
        self._environ = environ
        self._linter = linter
        self._parsed: dict[Secret, tuple[ServiceAccount | None, tuple[LintFinding, ...]]] = {}
        self._users: dict[tuple[str, object], str] = {}

    def run(self, manifest: Manifest) -> None:
        for mount in manifest.mounts:
            if mount.credentials:
                self._credential(mount.name, mount.credentials)
            if mount.rotation.operator_token:
                self._read(mount.rotation.operator_token)
        for reference in manifest.references_of_objects:
            self._read(reference)
        self._exposure(manifest)

    def _credential(self, mount: str, reference: Reference) -> None:
        secret = self._read(reference)
        if secret is None:
            return
        account, findings = self._parse(secret)
        for finding in findings:
            problem = finding_problem(finding, f"the credential of {mount}", reference.where)
            (self.problems if finding.level == "error" else self.warnings).append(problem)
        if account is not None:
            self._shared(mount, reference, account)

    def _read(self, reference: Reference) -> Secret | None:
        try:
            if reference.scheme == "file":
                secret = file.read(reference.target[0])
            elif reference.scheme == "env":
                secret = env.read(reference.target[0], self._environ)
            else:
                return None
        except UnresolvedReferenceError as error:
            for problem in error.problems:
                is_unset = problem.code == "reference-unset"
                placed = replace(problem, where=reference.where)
                (self.warnings if is_unset else self.problems).append(placed)
            return None
        self.resolved += 1
        return secret

    def _parse(self, secret: Secret) -> tuple[ServiceAccount | None, tuple[LintFinding, ...]]:
        if secret not in self._parsed:
            self._parsed[secret] = self._linter.lint(secret)
        return self._parsed[secret]

    def _shared(self, mount: str, reference: Reference, account: ServiceAccount) -> None:
        for mark in (("key id", account.key_id), ("key", account.private_key)):
            other = self._users.setdefault(mark, mount)
            if other != mount:
                self.warnings.append(
                    Problem(
                        "shared-credential",
                        f"the mounts {other} and {mount} use the same {mark[0]}",
                        "a leak or a rotation of one touches the other",
                        "give each mount a service account of its own",
                        reference.where,
                    )
                )
                return

    def _exposure(self, manifest: Manifest) -> None:
        files = [
            one for one in manifest.references if one.scheme == "file" and _is_file(one.target[0])
        ]
        for reference in files:
            mode = wider_than_owner(reference.target[0])
            if mode:
                summary = f"{reference.target[0]} has mode {mode}"
                why = "others on this machine may use it"
                fix = f"chmod 600 {reference.target[0]}"
                problem = Problem("file-mode", summary, why, fix, reference.where)
                self.warnings.append(problem)
        self.warnings += _versioned(files)


def _unknown_policies(manifest: Manifest) -> Iterator[Problem]:
    """Yield a warning for each policy of a login that only the server may have."""
    known = {"default", *(one.name for one in manifest.policies)}
    for login in manifest.consumers:
        for name in login.policies:
            if name.lower() not in known:
                yield Problem(
                    "unknown-policy",
                    f"the login {login.name} has the policy {shown(name)}, "
                    "which the manifest does not declare",
                    "if the server has none of that name either, it permits nothing",
                    did_you_mean(name, known) or "'skyflowctl plan' asks the server",
                    login.where,
                )


def _unknown_signers(manifest: Manifest) -> Iterator[Problem]:
    """Yield a warning for each certificate whose signing engine only the server may have."""
    known = {engine.path for engine in manifest.engines if engine.type == "pki"}
    for one in manifest.objects:
        signer = one.fields.get("signed_by") if one.once else None
        if isinstance(signer, str) and signer not in known:
            yield Problem(
                "signer-missing",
                f"signed_by names no pki engine of the manifest: {shown(signer)}",
                "if the server has none there either, the certificate cannot be signed",
                did_you_mean(signer, known) or "'skyflowctl plan' asks the server",
                one.where,
            )


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # the name is too long; that it cannot be read was reported
        return False


def _versioned(files: Sequence[Reference]) -> Iterator[Problem]:
    seen = in_version_control({reference.target[0] for reference in files})
    for reference in files:
        path = reference.target[0]
        if path in seen:
            summary = f"{path} lies in a git work tree and is not ignored"
            fix = "add its folder to .gitignore; if it was ever committed, replace the key"
            why = "the next commit of everything would publish it"
            yield Problem("file-in-git", summary, why, fix, reference.where)
