"""The lifetimes of tokens, learnt from the tokens themselves."""

from collections import OrderedDict
from datetime import timedelta

# Far more than a mount's live and kept credentials; candidates must not accumulate.
_REMEMBERED = 64


class TokenLifetimes:
    """The longest life of a token of each credential that this process minted with."""

    def __init__(self) -> None:
        self._longest: OrderedDict[tuple[str, str], timedelta] = OrderedDict()

    def note(self, client_id: str, key_id: str, life: timedelta) -> None:
        """Record that a token of this credential is valid for ``life`` from now."""
        who = (client_id, key_id)
        self._longest[who] = max(life, self._longest.get(who, life))
        self._longest.move_to_end(who)
        if len(self._longest) > _REMEMBERED:
            self._longest.popitem(last=False)

    def longest(self, client_id: str, key_id: str) -> timedelta | None:
        """Return the longest life seen of this credential's tokens; None: none was seen."""
        return self._longest.get((client_id, key_id))
