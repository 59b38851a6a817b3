"""``creds``: a bearer token for a role. Never writes, so every node answers itself."""

from collections.abc import Coroutine, Hashable
from datetime import timedelta

from skyflowctl.clock import rfc3339
from skyflowctl.engine.contract import EngineError, EngineReply, Operation
from skyflowctl.engine.ctx import InvalidCtxError
from skyflowctl.engine.exchanges import MintFailedError
from skyflowctl.engine.fields import Field, FieldType
from skyflowctl.engine.mount import EngineMount
from skyflowctl.engine.names import PER_ROLE
from skyflowctl.engine.records import RoleRecord
from skyflowctl.engine.reuse import reuse_key
from skyflowctl.engine.routing import Call, PathOperation, Route
from skyflowctl.engine.single_flight import SingleFlight
from skyflowctl.engine.store import Config
from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.minting import MintedToken

_FIELDS = (
    Field(
        "ctx",
        FieldType.CTX,
        "The context to bind into the token: a string, or in a JSON body a flat object. The "
        "server's audit log hashes only strings: numbers in an object are logged in plain text.",
    ),
)
_DESCRIPTION = """\
Mints a Skyflow bearer token for the role and the given ctx. There is no lease, because
Skyflow's bearers cannot be revoked; expires_at is the expiry of the token. A role with
reuse_min_ttl may answer the same token again; reused says whether it did."""


@dataclass(frozen=True, slots=True)
class _Minted:
    token: MintedToken
    credential_version: int


class CredsPath:
    """Answers ``creds/<name>``."""

    def __init__(self, mount: EngineMount) -> None:
        self._mount = mount
        self._flights: SingleFlight[_Minted] = SingleFlight()

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this module."""
        actions = {
            Operation.READ: PathOperation(self.mint, "Mint a token.", _FIELDS),
            Operation.UPDATE: PathOperation(self.mint, "Mint a token with a ctx object.", _FIELDS),
        }
        return (
            Route(
                "creds/{name}",
                "Bearer tokens of a role.",
                _DESCRIPTION,
                actions,
                segment="The role's name.",
            ),
        )

    async def mint(self, call: Call) -> EngineReply:
        """Answer a token: a fresh one, or for a role with ``reuse_min_ttl`` one that lasts.

        Raises:
            EngineError: 400 for what is not configured or a broken ctx rule, 502 when
                the token service refuses, 503 when it does not answer.
        """
        generation = self._mount.store.generation
        config, role = await usable(self._mount, call)
        try:
            if not role.reuse_min_ttl:
                return EngineReply(self._public(await self._fresh(call, config, role, generation)))
            minted, reused = await self._reusable(call, config, role, generation)
        except MintFailedError as error:
            raise error.failure.error() from None
        return EngineReply(self._public(minted) | {"reused": reused})

    async def _fresh(
        self, call: Call, config: Config, role: RoleRecord, generation: int
    ) -> _Minted:
        """Mint a token; config and role are read again if they changed while it waited."""
        store, exchanges = self._mount.store, self._mount.exchanges
        async with exchanges.place():
            if store.generation != generation:
                # No token of a credential or role that is gone by now.
                config, role = await usable(self._mount, call)
            credential, ctx = config.usable(), call.values.get("ctx")
            token = await exchanges.exchange(credential, role.role_ids[0], ctx)
        return _Minted(token, config.record.credential_version)

    async def _reusable(
        self, call: Call, config: Config, role: RoleRecord, generation: int
    ) -> tuple[_Minted, bool]:
        """Return a token and whether it was minted for another request.

        Callers who ask for the same token while it is minted wait for that one exchange.
        """
        reused, min_ttl = self._mount.reused, timedelta(seconds=role.reuse_min_ttl)
        sharer = "" if role.reuse_per == PER_ROLE else call.request.entity_id
        unknown = role.reuse_per != PER_ROLE and not sharer
        if unknown or generation != self._mount.store.generation:
            return await self._fresh(call, config, role, generation), False
        key = reuse_key(call.segment, call.values.get("ctx"), sharer)
        found = reused.find(generation, key)
        if found:
            return _Minted(found, config.record.credential_version), True
        started = False

        def start() -> Coroutine[None, None, _Minted]:
            nonlocal started
            started = True
            return self._kept(call, config, role, generation, key)

        minted = await self._flights.run((generation, key), start)
        if started or reused.lasts(minted.token, min_ttl):
            return minted, not started
        return await self._fresh(call, config, role, generation), False

    async def _kept(
        self, call: Call, config: Config, role: RoleRecord, generation: int, key: Hashable
    ) -> _Minted:
        minted = await self._fresh(call, config, role, generation)
        if generation == self._mount.store.generation:
            min_ttl = timedelta(seconds=role.reuse_min_ttl)
            token, version = minted.token, minted.credential_version
            self._mount.reused.keep(generation, key, token, min_ttl, version)
        return minted

    def _public(self, minted: _Minted) -> dict[str, object]:
        token = minted.token
        left = token.expires_at - self._mount.clock.now()
        return {
            "access_token": token.access_token.reveal(),
            "token_type": token.token_type,
            "expires_at": rfc3339(token.expires_at),
            "ttl": max(0, int(left.total_seconds())),
            "key_id": token.key_id,
            "credential_version": minted.credential_version,
        }

    async def aclose(self) -> None:
        """End the exchanges whose tokens are to be kept."""
        await self._flights.aclose()


async def usable(mount: EngineMount, call: Call) -> tuple[Config, RoleRecord]:
    """Return a config with a credential, and the role of a request that keeps its ctx rule.

    Raises:
        EngineError: 400, there is none of them, or the role refuses the ctx.
    """
    config = await mount.store.config()
    config.usable()
    role = await mount.store.role(call.segment)
    if role is None:
        raise EngineError(400, "unknown role", "unknown_role")
    try:
        role.rule().check(call.values.get("ctx"))
    except InvalidCtxError as error:
        raise EngineError(400, f"ctx: {error.reason}", "ctx_refused") from None
    return config, role
