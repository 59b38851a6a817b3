"""The manifest's credentials: their lint, and whether Skyflow's token service takes them."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from skyflowctl.clock import Clock
from skyflowctl.credentials.sources import ManifestSource
from skyflowctl.doctor.model import Diagnosis, Grade, of_problem, well
from skyflowctl.engine.ctx import Ctx, CtxRule
from skyflowctl.errors import SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Mount, Role
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
_NOT_ASKED = "the vendor's SDK was not asked: the manifest has no role of this mount"


@dataclass(frozen=True, slots=True)
class DoctorCredentials:
    """The checks of a manifest's credentials.

    Args:
        validation: of the manifest; None: there is no manifest.
        environ: the process environment, for what is not resolved.
        clock: the time for assertions.
        allowed_hosts: ``host:port`` of the token services that may get an assertion.
        withheld: why no credential is sent anywhere; empty: they may be.
    """

    validation: Validation | None
    environ: Mapping[str, str]
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
            yield well(CREDENTIALS, text, f"{counted(found.resolved, 'reference')} resolved")

    def token_service(self) -> Iterator[Diagnosis]:
        """Mint with each credential, and with the vendor's SDK too where ours fails."""
        if self.withheld or self.validation is None or self.validation.manifest is None:
            why = self.withheld or "without a manifest there is no credential to ask it with"
            yield Diagnosis(TOKEN_SERVICE, Grade.UNKNOWN, "it was not asked from here", why)
            return
        manifest = self.validation.manifest
        source = ManifestSource(manifest, allowed_hosts=self.allowed_hosts, clock=self.clock)
        seen: set[str] = set()
        for mount in manifest.mounts:
            if mount.credentials is None or mount.credentials.scheme not in _HERE:
                continue
            try:
                account = source.account(mount.name)
            except SkyflowctlError:
                continue  # its lint says why
            if account.key_id not in seen:
                # The first is always compared: it shows whether the SDK works here at all.
                yield self._compared(mount, account, always=not seen)
                seen.add(account.key_id)
        if not seen:
            why = "no credential of the manifest is in a file or a variable here"
            fix = "skyflowctl health"
            yield Diagnosis(TOKEN_SERVICE, Grade.UNKNOWN, "it was not asked from here", why, fix)

    def _compared(self, mount: Mount, account: ServiceAccount, *, always: bool) -> Diagnosis:
        role = mount.roles[0] if mount.roles else None
        ours = self._ours(account, role)
        who = f"{token_host(account.token_uri)} and the key of {mount.name}"
        if isinstance(ours, MintedToken) and not always:
            return well(TOKEN_SERVICE, f"{who}: a token in {ours.latency_ms:.0f} ms")
        theirs = self._theirs(account, role) if role else ""
        if isinstance(ours, MintedToken):
            if role is None:
                return well(TOKEN_SERVICE, f"{who}: our minter gets a token", _NOT_ASKED)
            if theirs:
                detail = f"the vendor's SDK does not: {theirs}"
                return well(TOKEN_SERVICE, f"{who}: our minter gets a token", detail)
            text = f"{who}: a token in {ours.latency_ms:.0f} ms"
            return well(TOKEN_SERVICE, text, "the vendor's SDK gets one too")
        if role is None:
            why, fix = f"{ours}; {_NOT_ASKED}", "check the key in Skyflow, then: skyflowctl doctor"
            return Diagnosis(TOKEN_SERVICE, Grade.BAD, f"{who}: no token", why, fix)
        also = f"the vendor's SDK gets none: {theirs}" if theirs else "the vendor's SDK gets one"
        fix = f"skyflowctl creds {mount.name} {role.name} --direct"
        return Diagnosis(TOKEN_SERVICE, Grade.BAD, f"{who}: no token", f"{ours}; {also}", fix)

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
            return "it is not installed"
        except SkyflowctlError as error:
            return error.problems[0].why or error.problems[0].summary
        return ""


def _probe(role: Role) -> Ctx | None:
    return role.ctx.probe or None
