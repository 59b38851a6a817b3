"""Tokens that a mount hands out more than once, for roles that ask for it.

They live in this process's memory only: each node has its own. Any change of a config or role,
also one that another node made, drops all of them.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Hashable
from datetime import timedelta

from skyflowctl.clock import Clock
from skyflowctl.engine.ctx import Ctx
from skyflowctl.skyflow.minting import MintedToken

MAX_ENTRIES = 10_000


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


class ReusedTokens:
    """The reusable tokens of one mount, the least recently used dropped first.

    Args:
        clock: tells how long a token is still valid.
        limit: the most tokens that are kept.
    """

    def __init__(self, clock: Clock, limit: int = MAX_ENTRIES) -> None:
        self._clock = clock
        self._limit = limit
        self._generation = -1
        self._credential_version = 0
        self._tokens: OrderedDict[Hashable, MintedToken] = OrderedDict()

    def find(self, generation: int, key: Hashable, min_ttl: timedelta) -> MintedToken | None:
        """Return the kept token of a key if it is valid for at least ``min_ttl``.

        Args:
            generation: the store's; tokens of another one are dropped.
            key: see :func:`reuse_key`.
            min_ttl: the role's.
        """
        self._drop_older(generation)
        token = self._tokens.get(key)
        if token is None or not self.lasts(token, min_ttl):
            return None
        self._tokens.move_to_end(key)
        return token

    def keep(
        self, generation: int, key: Hashable, token: MintedToken, credential_version: int
    ) -> None:
        """Keep a token that was minted for a state that is still the store's."""
        self._drop_older(generation)
        self._tokens[key] = token
        self._tokens.move_to_end(key)
        self._credential_version = credential_version
        if len(self._tokens) > self._limit:
            self._tokens.popitem(last=False)

    def lasts(self, token: MintedToken, min_ttl: timedelta) -> bool:
        """Whether a token is valid for at least ``min_ttl`` from now."""
        return token.expires_at - self._clock.now() >= min_ttl

    def public(self, generation: int) -> dict[str, int]:
        """Return how many valid tokens are kept, and of which credential version (0: none)."""
        self._drop_older(generation)
        for key in [one for one, token in self._tokens.items() if not self.lasts(token, _NONE)]:
            del self._tokens[key]
        version = self._credential_version if self._tokens else 0
        return {"entries": len(self._tokens), "credential_version": version}

    def _drop_older(self, generation: int) -> None:
        if generation != self._generation:
            self._tokens.clear()
            self._generation = generation


_NONE = timedelta()
