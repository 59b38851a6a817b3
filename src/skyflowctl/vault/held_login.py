"""The login of a context while a command runs: bound to one cluster, and renewed in time."""

import contextlib
import threading
from collections.abc import Callable
from datetime import datetime

from skyflowctl.clock import Clock
from skyflowctl.errors import RefusedError, SkyflowctlError
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import VaultError

_CHECKED_SECONDS = 60.0
"""How long an address counts as the cluster's before it is asked again."""
_RENEW_AT = 1 / 3
"""The part of a token's life that is left when it is renewed."""
_AGAIN_SECONDS = 10.0
"""The pause after a renewal that failed."""


@dataclass(frozen=True, slots=True)
class HeldToken:
    """A token with its end.

    Args:
        token: the token.
        ttl: its whole life in seconds; 0: it never ends.
        ends: None: never.
        renewable: whether the server renews it.
    """

    token: Secret
    ttl: int
    ends: datetime | None
    renewable: bool


class ClusterChangedError(VaultError, RefusedError):
    """Another cluster answers at the address that a login was made for; no token was sent."""

    default_code = "cluster-changed"

    @classmethod
    def at(cls, address: str, known: str, found: str) -> "ClusterChangedError":
        """Return the error for an address and the ids of the two clusters."""
        return cls(
            f"another cluster answers at {address}; the token was not sent",
            why=f"the login was made at cluster {known}; this is {found}",
            fix="if the server was replaced on purpose: 'skyflowctl logout --forget', then "
            "'skyflowctl login'",
        )


class HeldLogin:
    """The token of a login, for one cluster alone. Safe for threads.

    Args:
        cluster: the id of the cluster that issued the token.
        held: the token.
        renew: asks the server to renew a token, and returns it with its new end.
        repeat: logs in again without a person; None: it takes one.
        clock: tells the time.
        is_own: whether the token was made for this command alone, and ends with it.
    """

    def __init__(
        self,
        cluster: str,
        held: HeldToken,
        *,
        renew: Callable[[Secret], HeldToken],
        repeat: Callable[[], HeldToken] | None,
        clock: Clock,
        is_own: bool = False,
    ) -> None:
        self._cluster = cluster
        self._held = held
        self.is_own = is_own
        self._renew = renew
        self._repeat = repeat
        self._clock = clock
        self._checked: dict[str, float] = {}
        self._lock = threading.Lock()
        self._next_try = 0.0

    def belongs_to(self, address: str, ask: Callable[[], str]) -> bool:
        """Return whether the token may be sent to an address.

        Args:
            address: of a node.
            ask: returns the id of the cluster at the address, asked without a token; empty: it
                does not tell, because it is sealed or not ready.

        Raises:
            ClusterChangedError: another cluster answers there.
        """
        at = self._checked.get(address)
        if at is not None and self._clock.monotonic() - at < _CHECKED_SECONDS:
            return True
        found = ask()
        if found and found != self._cluster:
            raise ClusterChangedError.at(address, self._cluster, found)
        if found:
            self._checked[address] = self._clock.monotonic()
        return bool(found)

    def token(self) -> Secret:
        """Return the token; renew it first, or log in again, if little of its life is left.

        A failure is not raised: the request that is sent with the token tells.
        """
        with self._lock:
            left = self._seconds_left()
            now = self._clock.monotonic()
            if left is None or left > self._held.ttl * _RENEW_AT or now < self._next_try:
                return self._held.token
            self._next_try = now + min(_AGAIN_SECONDS, max(left / 2, 1.0))
            # If the server refuses it or does not answer, the request will say so.
            with contextlib.suppress(SkyflowctlError):
                self._refresh(left)
            return self._held.token

    def _refresh(self, left: float) -> None:
        """Renew the token; log in again where that is possible and gives it no longer life."""
        if self._held.renewable and left > 0:
            try:
                renewed = self._renew(self._held.token)
            except VaultError:
                if self._repeat is None:
                    raise
            else:
                self._held = HeldToken(
                    renewed.token, self._held.ttl, renewed.ends, renewed.renewable
                )
                if (self._seconds_left() or 0) > self._held.ttl * _RENEW_AT or not self._repeat:
                    return
        if self._repeat is not None:
            self._held, self.is_own = self._repeat(), True

    def _seconds_left(self) -> float | None:
        if self._held.ends is None:
            return None
        return (self._held.ends - self._clock.now()).total_seconds()
