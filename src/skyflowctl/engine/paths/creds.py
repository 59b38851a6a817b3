"""``creds``: a bearer token for a role. Never writes, so every node answers itself."""

from skyflowctl.clock import rfc3339
from skyflowctl.engine.contract import EngineError, EngineReply, Operation
from skyflowctl.engine.ctx import InvalidCtxError
from skyflowctl.engine.exchanges import MintFailedError
from skyflowctl.engine.fields import Field, FieldType
from skyflowctl.engine.mount import EngineMount
from skyflowctl.engine.records import RoleRecord
from skyflowctl.engine.routing import Call, PathOperation, Route
from skyflowctl.engine.store import Config
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
Skyflow's bearers cannot be revoked; expires_at is the expiry of the token."""


class CredsPath:
    """Answers ``creds/<name>``."""

    def __init__(self, mount: EngineMount) -> None:
        self._mount = mount

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
        """Answer a fresh token.

        Raises:
            EngineError: 400 for what is not configured or a broken ctx rule, 502 when
                the token service refuses, 503 when it does not answer.
        """
        store, exchanges = self._mount.store, self._mount.exchanges
        generation = store.generation
        config, role = await usable(self._mount, call)
        try:
            async with exchanges.place():
                if store.generation != generation:
                    # While it waited: no token of a credential or role that is gone by now.
                    config, role = await usable(self._mount, call)
                credential, ctx = config.usable(), call.values.get("ctx")
                token = await exchanges.exchange(credential, role.role_ids[0], ctx)
        except MintFailedError as error:
            raise error.failure.error() from None
        return EngineReply(self._public(token, config.record.credential_version))

    def _public(self, token: MintedToken, credential_version: int) -> dict[str, object]:
        left = token.expires_at - self._mount.clock.now()
        return {
            "access_token": token.access_token.reveal(),
            "token_type": token.token_type,
            "expires_at": rfc3339(token.expires_at),
            "ttl": max(0, int(left.total_seconds())),
            "key_id": token.key_id,
            "credential_version": credential_version,
        }


async def usable(mount: EngineMount, call: Call) -> tuple[Config, RoleRecord]:
    """Return a config with a credential, and the role of a request that keeps its ctx rule.

    Raises:
        EngineError: 400, there is none of them, or the role refuses the ctx.
    """
    config = await mount.store.config()
    config.usable()
    role = await mount.store.role(call.segment)
    if role is None:
        raise EngineError(400, "unknown role")
    try:
        role.rule().check(call.values.get("ctx"))
    except InvalidCtxError as error:
        raise EngineError(400, f"ctx: {error.reason}") from None
    return config, role
