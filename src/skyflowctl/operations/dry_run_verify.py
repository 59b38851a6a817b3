"""``apply --dry-run --verify``: whether the manifest's credentials mint at the token service.

The one part of a dry run that speaks to anybody: to the server's ``config/verify`` where the
mount and its role are there already, else from here to the token service. Nothing is written,
and every token is thrown away.
"""

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from skyflowctl.clock import SystemClock
from skyflowctl.errors import InvalidInput, SkyflowctlError
from skyflowctl.executor.ports import CredentialSource
from skyflowctl.executor.proof import VerifiedRole, verified_roles
from skyflowctl.manifest.model import Mount, Role
from skyflowctl.operations.plan import PlanResult
from skyflowctl.operations.token_service import TokenServiceOnDemand
from skyflowctl.planner.fields import live_role, wanted_role
from skyflowctl.secret import Secret
from skyflowctl.skyflow.minting import Minter, MintingCredential, SigningKey
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.skyflow.token_service import TokenServiceRefused, TokenServiceUnreachable
from skyflowctl.skyflow.token_uri import token_host
from skyflowctl.vault.answers import RoleProof, VerifyReport
from skyflowctl.vault.failures import GuardedError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveEngine


@dataclass(frozen=True, slots=True)
class TriedRole:
    """What became of one role, and who was asked: a path of the server, or ``HOST:PORT``."""

    verified: VerifiedRole
    asked: str


def verify_declared(
    planned: PlanResult,
    gateway: Gateway | None,
    credentials: CredentialSource,
    allowed_hosts: AbstractSet[str],
) -> tuple[TriedRole, ...]:
    """Try every role of the plan's mounts with the manifest's credential; raises nothing.

    Args:
        planned: what is to be, and what is.
        gateway: the server; None: none is named.
        credentials: the source that a real apply would use.
        allowed_hosts: token services that may see an assertion from here.
    """
    return tuple(
        tried
        for mount in planned.mounts
        for tried in _Try(planned, gateway, credentials, allowed_hosts, mount).run()
    )


@dataclass(frozen=True, slots=True)
class _Try:
    """One mount's."""

    planned: PlanResult
    gateway: Gateway | None
    credentials: CredentialSource
    allowed_hosts: AbstractSet[str]
    mount: Mount

    def run(self) -> list[TriedRole]:
        """Ask the server for the roles that it has, and the token service for the others."""
        path = f"{self.mount.path}/config/verify"
        there = self._on_server()
        try:
            text = self._credential()
            report = self._asked(path, text) if there else None
        except GuardedError:
            report, there = None, ()  # no key is shown to an approver
        except SkyflowctlError as error:
            return [
                TriedRole(one, path if there else "")
                for one in verified_roles(self.mount, error.problems[0])
            ]
        asked = {one.role for one in verified_roles(self.mount, report)} if report else set()
        asked &= set(there)
        rest = [role for role in self.mount.roles if role.name not in asked]
        told = verified_roles(self.mount, report) if report else ()
        done = [TriedRole(one, path) for one in told if one.role in asked]
        return done + (self._from_here(text, rest) if rest or not self.mount.roles else [])

    def _on_server(self) -> tuple[str, ...]:
        """Return the roles that the server's engine has just as the manifest says."""
        engine = self.planned.live.engines.get(self.mount.path)
        if self.gateway is None or engine is None or not engine.config.api.has("verify"):
            return ()
        return tuple(role.name for role in self.mount.roles if self._is_live(role, engine))

    def _is_live(self, role: Role, engine: LiveEngine) -> bool:
        live = engine.roles.get(role.name)
        wanted = wanted_role(self.planned.manifest, role)
        bearing = ("role_ids", "ctx_probe")
        return live is not None and all(live_role(live)[key] == wanted[key] for key in bearing)

    def _credential(self) -> Secret | None:
        """Return the credential; None for one that only the server has or reads."""
        reference = self.mount.credentials
        if reference is None or self._server_file():
            return None
        return self.credentials.resolve(self.mount.name).json

    def _server_file(self) -> str:
        reference = self.mount.credentials
        by_server = reference is not None and reference.scheme == "server_file"
        known = self.planned.identities.get(self.mount.name)
        return reference.target[0] if reference and by_server and not known else ""

    def _asked(self, path: str, text: Secret | None) -> VerifyReport | None:
        if self.gateway is None:
            return None
        if text is not None:
            self.gateway.transport.refuse_guarded("POST", path)
            return self.gateway.verify_config(self.mount.path, {"credentials_json": text})
        file = self._server_file()
        field = {"credentials_file_path": file} if file else None
        return self.gateway.verify_config(self.mount.path, field)

    def _from_here(self, text: Secret | None, roles: Sequence[Role]) -> list[TriedRole]:
        mount = self.mount
        if text is None:
            error = InvalidInput(
                f"the credential of {mount.name} is not known here",
                why="the manifest names none, or a file that only the server reads",
                fix="apply it: the server tries it then",
                code="no-credential",
            )
            told = verified_roles(mount, error.problems[0])
            asked = ""
        else:
            account = load_trusted(text.reveal())
            asked = token_host(account.token_uri)
            credential = MintingCredential(account, SigningKey.trusted(account.private_key))
            proofs = asyncio.run(_minted(credential, roles, self.allowed_hosts))
            told = verified_roles(mount, VerifyReport(account.key_id, 0, 0, proofs))
        names = {role.name for role in roles} or {""}
        return [TriedRole(one, asked) for one in told if one.role in names]


async def _minted(
    credential: MintingCredential, roles: Sequence[Role], allowed_hosts: AbstractSet[str]
) -> dict[str, RoleProof]:
    service = TokenServiceOnDemand()
    minter = Minter(service, SystemClock(), allowed_hosts=allowed_hosts)
    try:
        if not roles:
            return {"": await _mint(minter, credential, None)}
        return {role.name: await _mint(minter, credential, role) for role in roles}
    finally:
        # Its connections belong to this event loop.
        await service.aclose()


async def _mint(minter: Minter, credential: MintingCredential, role: Role | None) -> RoleProof:
    scope, probe = (role.role_id, role.ctx.probe or None) if role else (None, None)
    try:
        token = await minter.mint(credential, scope, probe)
    except TokenServiceRefused as error:
        return RoleProof(False, error.status, error.message, error.request_id, 0.0, "")
    except TokenServiceUnreachable as error:
        return RoleProof(False, 0, error.reason, "", 0.0, "")
    return RoleProof(True, 200, "", token.request_id, token.latency_ms, "")
