"""``health``: whether this mount can mint on this node."""

import math
from datetime import datetime
from typing import Any

from skyflowctl.clock import rfc3339
from skyflowctl.engine.contract import EngineError, EngineReply, Operation
from skyflowctl.engine.exchanges import Failure
from skyflowctl.engine.fields import Field, FieldType
from skyflowctl.engine.mount import EngineMount
from skyflowctl.engine.paths.config import CREDENTIALS_TYPE
from skyflowctl.engine.routing import Call, PathOperation, Route
from skyflowctl.engine.single_flight import SingleFlight
from skyflowctl.engine.store import Config
from skyflowctl.engine.verification import RoleCheck
from skyflowctl.frozen import dataclass

_FIELDS = (
    Field("refresh", FieldType.BOOLEAN, "Mint now and ignore the cache.", default=False),
    Field("fail", FieldType.BOOLEAN, "Return 503 if the mount is unhealthy.", default=False),
)
_DESCRIPTION = """\
Mints once per role, as config/verify does, and caches the result. For a mount that does not
mint, the answer is 200 with healthy=false, or 503 with fail=true. age_seconds is the age of
the result; 0 means that it was made for this request. reuse tells how many reusable tokens
this node holds now, and of which credential version."""


@dataclass(frozen=True, slots=True)
class CachedHealth:
    """The result of one check, cached for a while and only for its store generation."""

    generation: int
    monotonic: float
    time: datetime
    config: Config
    checks: tuple[tuple[str, RoleCheck], ...] = ()

    def first_failure(self) -> tuple[str, Failure] | None:
        """Return the role and failure that tell the mount's state; a refusal first."""
        failed = [(name, check.failure) for name, check in self.checks if check.failure]
        failed.sort(key=lambda entry: not entry[1].refused)
        return failed[0] if failed else None

    def state(self) -> str:
        """Return ok, unconfigured, refused or token_service_unreachable."""
        if self.config.credential is None:
            return "unconfigured"
        failed = self.first_failure()
        if failed is None:
            return "ok"
        refused = failed[1].refused or failed[1].not_allowed
        return "refused" if refused else "token_service_unreachable"


class HealthPath:
    """Answers ``health``; remembers the last result."""

    def __init__(self, mount: EngineMount) -> None:
        self._mount = mount
        self._last: CachedHealth | None = None
        self._flight: SingleFlight[CachedHealth] = SingleFlight()

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this module."""
        action = PathOperation(self.read, "Tell whether the mount mints.", _FIELDS)
        return (Route("health", "The mount's health.", _DESCRIPTION, {Operation.READ: action}),)

    async def read(self, call: Call) -> EngineReply:
        """Answer the mount's health.

        Raises:
            EngineError: 503 with ``fail=true``, what is wrong.
        """
        mount, cached = self._mount, None if call.values["refresh"] else self._cached()
        # The key keeps a run apart that began before the last change.
        result = cached or await self._flight.run(mount.store.generation, self._check)
        if call.values["fail"] and result.state() != "ok":
            text = f"skyflow: {result.state()}{_detail(result, ': ')}"
            raise EngineError(503, text, result.state())
        shown = _public(result, math.ceil(self._age(cached)) if cached else 0)
        # Never from the cache: it proves what this node would hand out now.
        return EngineReply(shown | {"reuse": mount.reused.public(mount.store.generation)})

    async def aclose(self) -> None:
        """End a check that is in progress."""
        await self._flight.aclose()

    def _cached(self) -> CachedHealth | None:
        last, mount = self._last, self._mount
        if last is None or last.generation != mount.store.generation:
            return None
        return last if self._age(last) < mount.settings.health_ttl else None

    def _age(self, result: CachedHealth) -> float:
        return self._mount.clock.monotonic() - result.monotonic

    async def _check(self) -> CachedHealth:
        mount = self._mount
        generation = mount.store.generation
        config = await mount.store.config()
        checks: dict[str, RoleCheck] = {}
        if config.credential is not None:
            checks = await mount.verifier.check(
                config.credential, await mount.store.roles(), mount.settings.health_seconds
            )
        result = CachedHealth(
            generation,
            mount.clock.monotonic(),
            mount.clock.now(),
            config,
            tuple(checks.items()),
        )
        self._last = result
        return result


def _detail(result: CachedHealth, before: str = "") -> str:
    failed = result.first_failure()
    if failed is None:
        unusable = result.config.unusable()
        return f"{before}{unusable}" if unusable else ""
    name, failure = failed
    role = f" [role {name}]" if name else ""
    return f"{before}{failure.text()}{role}"


def _public(result: CachedHealth, age_seconds: int) -> dict[str, Any]:
    """Return the answer; an age of 0 means that it was made for this request."""
    config, state = result.config, result.state()
    credential = config.credential
    return {
        "healthy": state == "ok",
        "configuration_status": state,
        "credentials_type": CREDENTIALS_TYPE if credential else "",
        "key_id": credential.account.key_id if credential else "",
        "credential_version": config.record.credential_version,
        "version": config.record.version,
        "timestamp": rfc3339(result.time),
        "age_seconds": age_seconds,
        "token_service": _token_service(result),
    }


def _token_service(result: CachedHealth) -> dict[str, Any]:
    """Tell how the service answered; ``reachable`` None means that it was not asked."""
    failed = result.first_failure()
    answered = [check for _, check in result.checks if not check.failure or check.failure.refused]
    latencies = [check.latency_ms for check in answered if check.latency_ms is not None]
    status = failed[1].status if failed else 200
    return {
        "reachable": bool(answered) if result.checks else None,
        "latency_ms": max(latencies, default=None),
        "status": status if result.checks else 0,
        "error": _detail(result),
    }
