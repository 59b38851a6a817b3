"""A mount's storage in memory: for dry runs and tests."""


class MemoryStorage:
    """A :class:`~skyflowctl.engine.contract.Storage` that keeps values in a dict."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None when there is none."""
        return self._values.get(key)

    async def put(self, key: str, value: bytes) -> None:
        """Store the value under the key."""
        self._values[key] = value

    async def delete(self, key: str) -> None:
        """Remove the key; a missing key is not an error."""
        self._values.pop(key, None)

    async def list(self, prefix: str) -> list[str]:
        """Return the names directly below the prefix, sorted; a folder's name ends in ``/``."""
        rests = (key[len(prefix) :] for key in self._values if key.startswith(prefix))
        names = {name + slash for name, slash, _ in (rest.partition("/") for rest in rests)}
        return sorted(names - {""})
