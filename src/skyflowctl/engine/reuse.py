"""Tokens that a mount hands out more than once, for roles that ask for it.

They live in this process's memory only: each node has its own. Any change of a config or role,
also one that another node made, drops all of them.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Hashable
from datetime import datetime, timedelta

from skyflowctl.clock import Clock
from skyflowctl.engine.ctx import Ctx
from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.minting import MintedToken

MAX_ENTRIES = 10_000
_SWEEP = timedelta(minutes=1)


def reuse_key(role: str, ctx: Ctx | None, entity_id: str) -> Hashable:
    """Return what two requests must have in common to get the same token.

    Args:
        role: its name.
        ctx: equal as JSON: the order of an object's keys does not matter, 1 is not "1".
        entity_id: of the caller; empty where all callers of the role share the token.
    """
    # A digest: 10,000 ctx objects of 4 KiB are not kept in memory.
    plain = ctx if ctx is None or isinstance(ctx, str) else dict(ctx)
    return hashlib.sha256(json.dumps([role, entity_id, plain], sort_keys=True).encode()).digest()


@dataclass(frozen=True, slots=True)
class _Kept:
    token: MintedToken
    handed_out_until: datetime


class ReusedTokens:
    """The reusable tokens of one mount, the least recently used dropped first.

    A token that may not be handed out again is dropped when it is asked for, when health is
    read, and at the latest a minute later, with the next token that is kept.

    Args:
        clock: tells how long a token is still valid.
        limit: the most tokens that are kept.
    """

    def __init__(self, clock: Clock, limit: int = MAX_ENTRIES) -> None:
        self._clock = clock
        self._limit = limit
        self._generation = -1
        self._credential_version = 0
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._next_sweep = clock.now()

    def find(self, generation: int, key: Hashable) -> MintedToken | None:
        """Return the kept token of a key if it may still be handed out.

        Args:
            generation: the store's; tokens of another one are dropped.
            key: see :func:`reuse_key`.
        """
        self._drop_older(generation)
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.handed_out_until < self._clock.now():
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return kept.token

    def keep(
        self,
        generation: int,
        key: Hashable,
        token: MintedToken,
        min_ttl: timedelta,
        credential_version: int,
    ) -> None:
        """Keep a token that was minted for a state that is still the store's.

        Args:
            generation: the store's.
            key: see :func:`reuse_key`.
            token: not kept if it is valid for less than ``min_ttl``.
            min_ttl: the role's; a change of the role drops the token.
            credential_version: of the credential that minted it.
        """
        self._drop_older(generation)
        if not self.lasts(token, min_ttl):
            return
        self._kept[key] = _Kept(token, token.expires_at - min_ttl)
        self._kept.move_to_end(key)
        self._credential_version = credential_version
        if self._clock.now() >= self._next_sweep:
            self._sweep()
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def lasts(self, token: MintedToken, min_ttl: timedelta) -> bool:
        """Whether a token is valid for at least ``min_ttl`` from now."""
        return token.expires_at - self._clock.now() >= min_ttl

    def public(self, generation: int) -> dict[str, int]:
        """Return how many tokens may be handed out, and of which credential version (0: none)."""
        self._drop_older(generation)
        self._sweep()
        version = self._credential_version if self._kept else 0
        return {"entries": len(self._kept), "credential_version": version}

    def _sweep(self) -> None:
        now = self._clock.now()
        for key in [one for one, kept in self._kept.items() if kept.handed_out_until < now]:
            del self._kept[key]
        self._next_sweep = now + _SWEEP

    def _drop_older(self, generation: int) -> None:
        if generation != self._generation:
            self._kept.clear()
            self._generation = generation
