"""The secrets engine of one mount: requests in, replies or errors out.

Two hosts run it: the plugin process of a real server, and the in-process server of a dry run. It
depends on neither: it gets its storage, token service and clock from them.
"""

import logging
from collections.abc import Mapping

from skyflowctl.clock import Clock, SystemClock
from skyflowctl.engine.contract import (
    EngineError,
    EngineReply,
    EngineRequest,
    Operation,
    Storage,
    StorageError,
)
from skyflowctl.engine.exchanges import ExchangeSet
from skyflowctl.engine.help import help_reply
from skyflowctl.engine.mint_limiter import MintLimiter
from skyflowctl.engine.mount import EngineMount
from skyflowctl.engine.mount_options import earlier_cut_off
from skyflowctl.engine.names import is_name
from skyflowctl.engine.paths.config import ConfigPath
from skyflowctl.engine.paths.creds import CredsPath
from skyflowctl.engine.paths.health import HealthPath
from skyflowctl.engine.paths.history import HistoryPath
from skyflowctl.engine.paths.roles import RolesPath
from skyflowctl.engine.paths.rotation import RotationPath
from skyflowctl.engine.paths.sign import SignPath
from skyflowctl.engine.paths.verify import VerifyPath
from skyflowctl.engine.records import CREDENTIAL_PREFIX
from skyflowctl.engine.reuse import ReusedTokens
from skyflowctl.engine.routing import Router
from skyflowctl.engine.settings import EngineSettings
from skyflowctl.engine.store import MountStore
from skyflowctl.engine.verification import Verifier
from skyflowctl.skyflow.minting import Minter
from skyflowctl.skyflow.token_service import TokenService

__all__ = ["Engine", "EngineSettings"]

_log = logging.getLogger(__name__)


class Engine:
    """One mount.

    Args:
        storage: the mount's own.
        token_service: the mount's own; :meth:`aclose` closes it.
        settings: the same for all mounts of a host.
        clock: the source of time.
        options: the mount's, as they were when it was set up.
    """

    def __init__(
        self,
        storage: Storage,
        token_service: TokenService,
        settings: EngineSettings | None = None,
        clock: Clock | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        settings, clock = settings or EngineSettings(), clock or SystemClock()
        minter = Minter(
            token_service,
            clock,
            deadline=settings.mint_deadline,
            allowed_hosts=settings.allowed_hosts,
        )
        limiter = MintLimiter(settings.max_in_flight, settings.max_waiting, settings.max_wait)
        self._store = MountStore(storage, earlier_cut_off(options or {}))
        telemetry = settings.telemetry
        self._observed = telemetry.mount(self._store, limiter, clock) if telemetry else None
        self._exchanges = exchanges = ExchangeSet(minter, limiter, clock, self._observed)
        self._token_service = token_service
        verifier, reused = Verifier(exchanges), ReusedTokens(clock)
        mount = EngineMount(self._store, exchanges, verifier, settings, clock, reused)
        self._health, self._creds = HealthPath(mount), CredsPath(mount)
        self._router = _router(mount, self._health, self._creds)

    async def handle(self, request: EngineRequest) -> EngineReply:
        """Answer one request; a cancellation cancels its exchanges.

        Raises:
            EngineError: an error answer with its status.
            StorageError: the storage refused, with its own text.
        """
        if self._observed is None:
            return await self._answer(request)
        return await self._observed.observe(request, self._answer)

    async def _answer(self, request: EngineRequest) -> EngineReply:
        try:
            if request.operation is Operation.HELP:
                return self._help(request.path)
            action, call = self._router.resolve(request)
            return await action.handler(call)
        except (EngineError, StorageError):
            raise
        except Exception as error:  # noqa: BLE001 - an unexpected text may hold anything
            # Only the type: the text or the traceback could show a value.
            _log.error("unexpected %s while answering a request", _kind(error))  # noqa: TRY400
            raise EngineError(500, "internal error") from None

    async def exists(self, request: EngineRequest) -> bool | None:
        """Return whether the object of a write exists; None for paths without objects.

        Raises:
            StorageError: the storage failed.
        """
        name = request.path.removeprefix("roles/")
        try:
            if request.path == "config":
                return (await self._store.config()).record.configured
            if name == request.path or not is_name(name):
                return None
            return await self._store.role(name) is not None
        except StorageError:
            raise
        except EngineError:
            return None  # the write itself is refused with the same message
        except Exception as error:  # noqa: BLE001 - the write itself will tell what is wrong
            _log.error("unexpected %s in an existence check", _kind(error))  # noqa: TRY400
            return None

    def invalidate(self, key: str) -> None:
        """Drop data cached from this storage key, because another node wrote it."""
        self._store.invalidate(key)

    def special_paths(self) -> tuple[str, ...]:
        """Return the storage prefixes that hold credentials, for seal wrapping."""
        return (CREDENTIAL_PREFIX,)

    async def aclose(self) -> None:
        """Stop background tasks and close the connections; idempotent."""
        self._exchanges.close()
        await self._health.aclose()
        await self._creds.aclose()
        await self._token_service.aclose()
        if self._observed is not None:
            await self._observed.aclose()

    def _help(self, path: str) -> EngineReply:
        path = path.removesuffix("/")
        return EngineReply(help_reply(self._router, self._router.match(path) if path else None))


def _kind(error: BaseException) -> str:
    """Return the type of an error, of a group's members, and nothing of their texts."""
    if isinstance(error, BaseExceptionGroup):
        return "+".join(sorted({_kind(member) for member in error.exceptions}))
    return type(error).__name__


def _router(mount: EngineMount, health: HealthPath, creds: CredsPath) -> Router:
    paths = (
        ConfigPath(mount),
        VerifyPath(mount),
        RotationPath(mount),
        HistoryPath(mount),
        RolesPath(mount),
        creds,
        SignPath(mount),
        health,
    )
    return Router(route for path in paths for route in path.routes())
