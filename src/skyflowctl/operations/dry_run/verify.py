"""``apply --dry-run --verify``: checks that the manifest's credentials mint.

This is the only part of a dry run that sends requests to other services: to the server's
``config/verify`` if the mount and its role already exist, else from this machine to the token
service. It writes nothing and discards every token.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from skyflowctl.clock import SystemClock
from skyflowctl.concurrency import Workers
from skyflowctl.credentials.model import CredentialSource
from skyflowctl.errors import InvalidInputError, SkyflowctlError
from skyflowctl.executor.verify import VerifiedRole, verified_roles
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Mount, Role
from skyflowctl.operations.plan import PlanResult
from skyflowctl.planner.fields import live_role, wanted_role
from skyflowctl.secret import Secret
from skyflowctl.skyflow.minting import mint_each
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.skyflow.token_service import TokenService
from skyflowctl.skyflow.token_uri import token_host
from skyflowctl.vault.errors import GuardedError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import SERVER_FILE, LiveEngine
from skyflowctl.vault.responses import RoleResult, VerifyReport

_RETRY = "remove the reason and run this again, or apply: the server verifies every role then"


@dataclass(frozen=True, slots=True)
class TriedRole:
    """The result for one role, and what was asked: a path of the server, or ``HOST:PORT``."""

    verified: VerifiedRole
    asked: str


def verify_declared(
    planned: PlanResult,
    gateway: Gateway | None,
    credentials: CredentialSource,
    allowed_hosts: AbstractSet[str],
    *,
    new_service: Callable[[], TokenService],
    parallelism: int,
) -> tuple[TriedRole, ...]:
    """Try every role of the plan's mounts with the manifest's credential; raises no error.

    Args:
        planned: the desired and the live state.
        gateway: the server; None: none is named.
        credentials: the source that a real apply would use.
        allowed_hosts: token services that may get an assertion from this machine.
        new_service: creates their client; called once a mount, which has its own event loop.
        parallelism: how many mounts are tried at once.
    """

    def tried(mount: Mount) -> list[TriedRole]:
        return _Try(planned, gateway, credentials, allowed_hosts, new_service, mount).run()

    with Workers(parallelism) as pool:
        return tuple(role for roles in pool.map(tried, planned.mounts) for role in roles)


@dataclass(frozen=True, slots=True)
class _Try:
    """The verification of one mount."""

    planned: PlanResult
    gateway: Gateway | None
    credentials: CredentialSource
    allowed_hosts: AbstractSet[str]
    new_service: Callable[[], TokenService]
    mount: Mount

    def run(self) -> list[TriedRole]:
        """Verify the server's own roles through the server, the others at the token service."""
        path = f"{self.mount.path}/config/verify"
        there = self._on_server()
        asked = ""
        try:
            text = self._credential()
            asked = path if there else ""
            report = self._asked(path, text) if there else None
        except GuardedError:
            report, there = None, ()  # no key is shown to an approver
        except SkyflowctlError as error:
            failed = verified_roles(self.mount, error.problems[0], _RETRY)
            return [TriedRole(one, asked) for one in failed]
        verified = verified_roles(self.mount, report, _RETRY) if report else ()
        done = [TriedRole(one, path) for one in verified if one.role in there]
        answered = {one.verified.role for one in done}
        rest = [role for role in self.mount.roles if role.name not in answered]
        return done + (self._from_here(text, rest) if rest or not self.mount.roles else [])

    def _on_server(self) -> tuple[str, ...]:
        """Return the roles that are the same in the server's engine and in the manifest."""
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
        """Return the credential; None for one that only the server holds or reads."""
        reference = self.mount.credentials
        if reference is None or self._server_file():
            return None
        return self.credentials.resolve(self.mount.name).json

    def _server_file(self) -> str:
        reference = self.mount.credentials
        known = self.planned.identities.get(self.mount.name)
        return reference.server_file if reference and not known else ""

    def _asked(self, path: str, text: Secret | None) -> VerifyReport | None:
        if self.gateway is None:
            return None
        if text is not None:
            if self.gateway.transport.refuse_guarded("POST", path):
                return None  # a control group may guard it
            return self.gateway.engine(self.mount.path).verify({"credentials_json": text})
        file = self._server_file()
        field = {SERVER_FILE: file} if file else None
        return self.gateway.engine(self.mount.path).verify(field)

    def _from_here(self, text: Secret | None, roles: Sequence[Role]) -> list[TriedRole]:
        mount = self.mount
        if text is None:
            error = InvalidInputError(
                f"the credential of {mount.name} is not known here",
                why="the manifest names none, or a file that only the server reads",
                fix="apply it: the server tries it then",
                code="no-credential",
            )
            verified = verified_roles(mount, error.problems[0], _RETRY)
            asked = ""
        else:
            account = load_trusted(text.reveal())
            asked = token_host(account.token_uri)
            scopes = {role.name: (role.role_id, role.ctx.probe or None) for role in roles}
            minted = mint_each(
                account, scopes, self.new_service(), SystemClock(), self.allowed_hosts
            )
            proofs = {name: RoleResult.of_mint(result) for name, result in minted.items()}
            verified = verified_roles(mount, VerifyReport(account.key_id, 0, 0, proofs), _RETRY)
        names = {role.name for role in roles} or {""}
        return [TriedRole(one, asked) for one in verified if one.role in names]
