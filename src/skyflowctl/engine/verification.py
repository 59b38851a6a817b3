"""The one check of a credential: mint once for every role, and throw the tokens away.

Config writes, ``config/verify`` and health ask here, so they never disagree.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from skyflowctl.clock import rfc3339
from skyflowctl.engine.ctx import Ctx
from skyflowctl.engine.exchanges import ExchangeSet, Failure, MintFailedError
from skyflowctl.engine.records import RoleRecord
from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.minting import MintingCredential

# The name that reports the exchange of a mount without roles: no role has it.
NO_ROLE = ""


@dataclass(frozen=True, slots=True)
class RoleCheck:
    """The result of minting for one role; ``failure`` None means success."""

    failure: Failure | None = None
    request_id: str = ""
    latency_ms: float | None = None
    expires_at: datetime | None = None

    @property
    def ok(self) -> bool:
        """True when there was a token."""
        return self.failure is None

    def public(self) -> dict[str, Any]:
        """Return the fields that a request may see; status 0 means no answer."""
        failure = self.failure
        return {
            "ok": self.ok,
            "status": failure.status if failure else 200,
            "message": failure.message if failure else "",
            "request_id": failure.request_id if failure else self.request_id,
            "latency_ms": self.latency_ms,
            "expires_at": rfc3339(self.expires_at) if self.expires_at else None,
        }


@dataclass(frozen=True, slots=True)
class Verifier:
    """Tries credentials.

    Args:
        exchanges: the mount's.
        parallel: exchanges of one check at a time.
        seconds: how long one check may take in all.
    """

    exchanges: ExchangeSet
    parallel: int = 8
    seconds: float = 25.0

    async def check(
        self,
        credential: MintingCredential,
        roles: Mapping[str, RoleRecord],
        seconds: float | None = None,
    ) -> dict[str, RoleCheck]:
        """Mint for each role with its probe; with no role, once without scope.

        ``seconds`` is the time for all of them; None: the verifier's own.
        """
        seconds = self.seconds if seconds is None else seconds
        results: dict[str, RoleCheck] = {}
        gate = asyncio.Semaphore(self.parallel)

        async def one(name: str, role_id: str | None, ctx: Ctx | None) -> None:
            async with gate:
                results[name] = await self._try(credential, role_id, ctx)

        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for name, role in roles.items():
                    group.create_task(one(name, role.role_ids[0], role.ctx_probe or None))
                if not roles:
                    group.create_task(one(NO_ROLE, None, None))
        except TimeoutError:
            # The roles that were not reached get their entry below.
            pass
        late = RoleCheck(Failure(0, f"not checked within {seconds:g} s"))
        return {name: results.get(name, late) for name in roles or [NO_ROLE]}

    async def _try(
        self, credential: MintingCredential, role_id: str | None, ctx: Ctx | None
    ) -> RoleCheck:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            token = await self.exchanges.mint(credential, role_id, ctx)
        except MintFailedError as error:
            # Without an answer there is no latency to tell.
            spent = round((loop.time() - started) * 1000, 1) if error.failure.refused else None
            return RoleCheck(error.failure, latency_ms=spent)
        return RoleCheck(None, token.request_id, round(token.latency_ms, 1), token.expires_at)

    async def accept(
        self,
        candidate: MintingCredential,
        live: MintingCredential | None,
        roles: Mapping[str, RoleRecord],
    ) -> tuple[str, ...]:
        """Accept a candidate that can do what the live credential can; return warnings.

        It must mint for at least one role, and for every role that the live credential
        can mint for. A role that neither can is a warning.

        Raises:
            EngineError: 502 or 503, why the candidate is not accepted.
        """
        checks = await self.check(candidate, roles)
        failed = {name: check.failure for name, check in checks.items() if check.failure}
        fatal = [name for name, failure in failed.items() if not failure.refused]
        if not fatal and len(failed) == len(checks):
            fatal = list(failed)
        if not fatal and failed and live:
            before = await self.check(live, {name: roles[name] for name in failed})
            # If the live one got no answer, it is unknown what it mints: refuse, to be safe.
            fatal = [
                name
                for name, check in before.items()
                if check.failure is None or not check.failure.refused
            ]
        return _accepted(failed, fatal)

    async def accept_back(
        self, kept: MintingCredential, roles: Mapping[str, RoleRecord]
    ) -> tuple[str, ...]:
        """Accept a kept credential that mints for at least one role; return warnings.

        A rollback must not depend on roles for which only the current credential mints.

        Raises:
            EngineError: 502 or 503, it mints for no role.
        """
        checks = await self.check(kept, roles)
        failed = {name: check.failure for name, check in checks.items() if check.failure}
        unanswered = [name for name, failure in failed.items() if not failure.refused]
        return _accepted(failed, [*unanswered, *failed] if len(failed) == len(checks) else [])


def _accepted(failed: Mapping[str, Failure], fatal: Sequence[str]) -> tuple[str, ...]:
    """Return the failures as warnings, unless one of them is fatal."""
    if fatal:
        raise failed[fatal[0]].error(_of_role(fatal[0]))
    return tuple(f"{failure.text()}{_of_role(name)}" for name, failure in failed.items())


def _of_role(name: str) -> str:
    return f" [role {name}]" if name else ""
