"""The token source for asyncio. Worker threads read; a task only waits, and may be cancelled."""

import asyncio
from collections.abc import Sequence
from typing import Any, Self

from .cache import Held, kept_value
from .errors import ServerUnavailableError, TokenSourceError
from .source import SourceCore, TokenCtx
from .values import BearerToken, SecretFields, SignedToken


class AsyncTokenSource(SourceCore):
    """Hands out what :class:`TokenSource` does, to tasks of any event loop.

    A value that is kept is returned at once. A read is shared by all tasks that want the same; the
    cancellation of one ends its wait, and neither the read nor the waits of others.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop tokens and secrets, and close the connections."""
        self._close()

    async def token(self, mount: str, role: str, ctx: TokenCtx | None = None) -> BearerToken:
        """Return a token; see :meth:`TokenSource.token`."""
        token: BearerToken = await self._shared(*self._token(mount, role, ctx))
        return token

    async def secrets(self, path: str, *, mount: str | None = None) -> SecretFields:
        """Return the fields of a KV v2 secret; see :meth:`TokenSource.secrets`."""
        fields: SecretFields = await self._shared(*self._secrets(path, mount))
        return fields

    async def sign(
        self,
        mount: str,
        role: str,
        data_tokens: Sequence[str],
        ctx: TokenCtx | None = None,
        *,
        ttl: int | None = None,
    ) -> list[SignedToken]:
        """Return signed data tokens; see :meth:`TokenSource.sign`."""
        return await asyncio.to_thread(self._signed, (mount, role), data_tokens, ctx, ttl)

    async def _shared(self, key: Any, fetch: Any) -> Any:
        kept, flight, _ = self._cache.look_up(key, fetch, workers=True)
        if flight is None:
            return kept.held.value if kept.held else None
        waiting: asyncio.Future[Held] = asyncio.wrap_future(flight)
        # A failure that no task waits for any more is not reported by the loop.
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            seconds = self._cache.seconds_to_wait(kept)
            return (await asyncio.wait_for(asyncio.shield(waiting), seconds)).value
        except TimeoutError:
            error: TokenSourceError = ServerUnavailableError("the server does not answer")
        except TokenSourceError as failed:
            error = failed.again()
        return kept_value(kept, error)
