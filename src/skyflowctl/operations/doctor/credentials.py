"""The manifest's credentials: their lint, and whether Skyflow's token service takes them."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress

from skyflowctl.clock import Clock
from skyflowctl.concurrency import Workers
from skyflowctl.credentials.sources import ManifestSource
from skyflowctl.doctor.model import Diagnosis, Grade, of_problem, ok_finding
from skyflowctl.engine.ctx import Ctx, CtxRule
from skyflowctl.errors import SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest, Mount, Role
from skyflowctl.operations.creds_direct import mint_direct
from skyflowctl.operations.validate import Validation
from skyflowctl.skyflow.http.on_demand import TokenServiceOnDemand
from skyflowctl.skyflow.minting import MintedToken, MintResult, mint_each
from skyflowctl.skyflow.service_account import ServiceAccount
from skyflowctl.skyflow.token_uri import token_host
from skyflowctl.text import counted

CREDENTIALS, TOKEN_SERVICE = "credentials", "token service"
_HERE = frozenset({"file", "env"})
"""Only these references are resolved, as by ``validate``: the others run or ask something."""
_AT_ONCE = 8
_THROUGH_SERVER = "skyflowctl health"
_NO_ROLE = "the manifest has no role of this mount"
_NO_SDK = "it is not installed"


@dataclass(frozen=True, slots=True)
class CredentialChecks:
    """The checks of a manifest's credentials.

    Args:
        validation: of the manifest; None: there is no manifest.
        clock: the time for assertions.
        allowed_hosts: ``host:port`` of the token services that may get an assertion.
        withheld: why no credential is sent anywhere; empty: they may be.
    """

    validation: Validation | None
    clock: Clock
    allowed_hosts: AbstractSet[str]
    withheld: str = ""

    def lint(self) -> Iterator[Diagnosis]:
        """Yield what is wrong with the manifest and its credentials."""
        found = self.validation
        if found is None:
            why = "there is no -f, SKYFLOWCTL_FILE or mounts.yaml"
            fix = "skyflowctl doctor -f mounts.yaml"
            yield Diagnosis(CREDENTIALS, Grade.UNKNOWN, "no manifest was checked", why, fix)
            return
        for problem in found.problems:
            yield of_problem(CREDENTIALS, Grade.BAD, problem)
        for problem in found.warnings:
            yield of_problem(CREDENTIALS, Grade.WARNING, problem)
        if found.valid:
            mounts = found.manifest.mounts if found.manifest else ()
            text = f"the manifest is valid: {counted(len(mounts), 'mount')}"
            yield ok_finding(CREDENTIALS, text, f"{counted(found.resolved, 'reference')} resolved")

    def token_service(self) -> Iterator[Diagnosis]:
        """Mint with each credential, and with the vendor's SDK too where ours fails."""
        if self.withheld or self.validation is None or self.validation.manifest is None:
            why = self.withheld or "without a manifest there is no credential to ask it with"
            yield _not_asked(why)
            return
        found = self._accounts(self.validation.manifest)
        if not found:
            yield _not_asked("no credential of the manifest is in a file or a variable here")
            return

        def asked(number: int) -> Diagnosis:
            # The first is always compared: it shows whether the SDK works here at all.
            return self._compared(*found[number], always=number == 0)

        with Workers(_AT_ONCE) as pool:
            yield from pool.map(asked, range(len(found)))

    def _accounts(self, manifest: Manifest) -> list[tuple[Mount, ServiceAccount]]:
        """Return each key that can be read here, with the first mount that has it."""
        source = ManifestSource(manifest, allowed_hosts=self.allowed_hosts, clock=self.clock)
        found: dict[str, tuple[Mount, ServiceAccount]] = {}
        for mount in manifest.mounts:
            if mount.credentials is not None and mount.credentials.scheme in _HERE:
                with suppress(SkyflowctlError):  # its lint says why
                    account = source.account(mount.name)
                    found.setdefault(account.key_id, (mount, account))
        return list(found.values())

    def _compared(self, mount: Mount, account: ServiceAccount, *, always: bool) -> Diagnosis:
        """Mint with our minter and, if that fails or ``always``, with the vendor's SDK."""
        role = mount.roles[0] if mount.roles else None
        ours = self._ours(account, role)
        who = f"{token_host(account.token_uri)} and the key of {mount.name}"
        got = f"{who}: a token in {ours.latency_ms:.0f} ms" if isinstance(ours, MintedToken) else ""
        if got and not always:
            return ok_finding(TOKEN_SERVICE, got)
        theirs = self._theirs(account, role) if role else _NO_ROLE
        if theirs in {_NO_ROLE, _NO_SDK}:
            said = f"the vendor's SDK was not asked: {theirs}"
        else:
            said = f"the vendor's SDK gets {f'none: {theirs}' if theirs else 'one'}"
        fix = f"skyflowctl creds {mount.name} {role.name} --direct" if role else _THROUGH_SERVER
        if not got:
            return Diagnosis(TOKEN_SERVICE, Grade.BAD, f"{who}: no token", f"{ours}; {said}", fix)
        if theirs in {"", _NO_ROLE, _NO_SDK}:
            return ok_finding(TOKEN_SERVICE, got, said)
        return Diagnosis(TOKEN_SERVICE, Grade.WARNING, got, said, fix)

    def _ours(self, account: ServiceAccount, role: Role | None) -> MintResult:
        scope = (role.role_id, _probe(role)) if role else (None, None)
        service = TokenServiceOnDemand()
        (made,) = mint_each(account, {"": scope}, service, self.clock, self.allowed_hosts).values()
        return made

    def _theirs(self, account: ServiceAccount, role: Role) -> str:
        """Return why the vendor's SDK gets no token; empty: it gets one."""
        try:
            rule = CtxRule.of(role.ctx.required, role.ctx.pattern)
            mint_direct(account, role.role_id, _probe(role), rule, allowed_hosts=self.allowed_hosts)
        except ModuleNotFoundError:
            return _NO_SDK
        except SkyflowctlError as error:
            return error.problems[0].why or error.problems[0].summary
        return ""


def _probe(role: Role) -> Ctx | None:
    return role.ctx.probe or None


def _not_asked(why: str) -> Diagnosis:
    summary = "the token service was not asked from here"
    return Diagnosis(TOKEN_SERVICE, Grade.UNKNOWN, summary, why, _THROUGH_SERVER)
