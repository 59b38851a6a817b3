"""One mount's stored state: cached for reads, and written so that a kill leaves no half.

Caches are dropped on own writes and when the server says that another node wrote. A load
that began before such a drop is used once and not kept: it may have read the old value.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from skyflowctl.engine.contract import EngineError, Storage, StorageError
from skyflowctl.engine.records import (
    CONFIG_KEY,
    CREDENTIAL_PREFIX,
    ROLE_PREFIX,
    WAL_PREFIX,
    ConfigRecord,
    RoleRecord,
)
from skyflowctl.skyflow.minting import MintingCredential, SigningKey
from skyflowctl.skyflow.service_account import ServiceAccount, load_trusted

_PARALLEL_LOADS = 16
_UNREADABLE = "skyflow: the stored credential cannot be read on this node"


def _ready(stored: bytes) -> MintingCredential:
    """Return a stored credential ready to sign; its key was checked before it was stored."""
    account = load_trusted(stored.decode())
    return MintingCredential(account, SigningKey.trusted(account.private_key))


@dataclass(frozen=True, slots=True)
class Config:
    """A mount's config with its live credential ready to sign; None when there is none."""

    record: ConfigRecord = field(default_factory=ConfigRecord)
    credential: MintingCredential | None = None

    def usable(self) -> MintingCredential:
        """Return the live credential.

        Raises:
            EngineError: 400, there is none.
        """
        if self.credential is None:
            raise EngineError(400, "mount not configured")
        return self.credential


class MountStore:
    """Reads and writes one mount's records."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = asyncio.Lock()
        self._config: Config | None = None
        self._parsed: tuple[str, MintingCredential] | None = None
        self._roles: dict[str, RoleRecord] = {}
        self._generation = 0

    @property
    def generation(self) -> int:
        """A number that changes whenever anything cached may have become wrong."""
        return self._generation

    def invalidate(self, key: str) -> None:
        """Forget what was read from this storage key; an empty one means everything."""
        if key.startswith(WAL_PREFIX):
            return
        self._generation += 1
        if not key or not key.startswith(ROLE_PREFIX):
            self._config = None
        if not key or key.startswith(CREDENTIAL_PREFIX):
            self._parsed = None
        if not key:
            self._roles.clear()
        self._roles.pop(key.removeprefix(ROLE_PREFIX), None)

    @asynccontextmanager
    async def writing(self, kind: str) -> AsyncIterator[None]:
        """Hold the mount's one write lock around a write; its first act is a storage Put.

        On a standby that Put fails, and its text makes the server forward the request
        before anything was minted or read from a file. What is left of it after a kill
        is harmless, and gone with the next write of the kind.
        """
        key = WAL_PREFIX + kind
        async with self._lock:
            await self._storage.put(key, b"{}")
            try:
                yield
            finally:
                # The write is decided by now; a leftover entry must not make it a failure.
                with suppress(StorageError):
                    await self._storage.delete(key)

    async def config(self) -> Config:
        """Return the config, from the cache when it is warm."""
        return self._config or await self.load_config()

    async def load_config(self) -> Config:
        """Return the config as the storage has it now.

        Raises:
            EngineError: 503, the credential is missing although the config names it.
        """
        # The two reads are not one: between them another node may have pruned.
        for _ in range(2):
            generation = self._generation
            config = await self._read_config()
            if config is not None:
                if generation == self._generation:
                    self._config = config
                return config
        raise EngineError(503, _UNREADABLE)

    async def _read_config(self) -> Config | None:
        raw = await self._storage.get(CONFIG_KEY)
        record = ConfigRecord.from_bytes(raw) if raw else ConfigRecord()
        if record.live is None:
            self._parsed = None
            return Config(record)
        credential = await self._credential(record.live.slot)
        return Config(record, credential) if credential else None

    async def _credential(self, slot: str) -> MintingCredential | None:
        """Return a stored credential; what was committed under a slot never changes."""
        if self._parsed and self._parsed[0] == slot:
            return self._parsed[1]
        generation = self._generation
        raw = await self._storage.get(CREDENTIAL_PREFIX + slot)
        if raw is None:
            return None
        credential = _ready(raw)
        if generation == self._generation:
            self._parsed = (slot, credential)
        return credential

    async def kept_credential(self, slot: str) -> MintingCredential:
        """Return a kept credential that is not the live one, for a rollback.

        Raises:
            EngineError: 503, it is missing although the config names it.
        """
        raw = await self._storage.get(CREDENTIAL_PREFIX + slot)
        if raw is None:
            raise EngineError(503, _UNREADABLE)
        return _ready(raw)

    async def role(self, name: str) -> RoleRecord | None:
        """Return a role, from the cache when it is warm; None when there is none."""
        return self._roles.get(name) or await self.load_role(name)

    async def load_role(self, name: str) -> RoleRecord | None:
        """Return a role as the storage has it now."""
        generation = self._generation
        raw = await self._storage.get(ROLE_PREFIX + name)
        if raw is None:
            return None
        role = RoleRecord.from_bytes(raw)
        if generation == self._generation:
            self._roles[name] = role
        return role

    async def role_names(self) -> list[str]:
        """Return the names of all roles, sorted."""
        return sorted(await self._storage.list(ROLE_PREFIX))

    async def roles(self, names: Iterable[str] | None = None) -> dict[str, RoleRecord]:
        """Return the roles of these names that exist (None: all), in that order."""
        wanted = list(names) if names is not None else await self.role_names()
        gate = asyncio.Semaphore(_PARALLEL_LOADS)

        async def load(name: str) -> RoleRecord | None:
            async with gate:
                return await self.role(name)

        loaded = await asyncio.gather(*(load(name) for name in wanted))
        return {name: role for name, role in zip(wanted, loaded, strict=True) if role}

    async def put_config(self, record: ConfigRecord) -> None:
        """Store the config: from here on it is the mount's state."""
        await self._put(CONFIG_KEY, record.to_bytes())

    async def put_credential(self, slot: str, account: ServiceAccount) -> None:
        """Store a credential under a slot that no committed config names yet."""
        await self._put(CREDENTIAL_PREFIX + slot, account.to_json().reveal().encode())

    async def commit(self, record: ConfigRecord, new: ServiceAccount | None = None) -> None:
        """Store a new live credential, then the config, then drop what is not kept.

        The config's put is the commit point. What is dropped is also what an earlier write
        left that was killed in between.
        """
        if new is not None:
            await self.put_credential(record.history[-1].slot, new)
        await self.put_config(record)
        await self.keep_credentials(record.kept_slots())

    async def keep_credentials(self, slots: Iterable[str]) -> None:
        """Destroy every stored credential but those in these slots."""
        stored = await self._storage.list(CREDENTIAL_PREFIX)
        for slot in sorted(set(stored) - set(slots)):
            await self._delete(CREDENTIAL_PREFIX + slot)

    async def put_role(self, name: str, role: RoleRecord) -> None:
        """Store a role."""
        await self._put(ROLE_PREFIX + name, role.to_bytes())

    async def delete_role(self, name: str) -> None:
        """Remove a role."""
        await self._delete(ROLE_PREFIX + name)

    async def _put(self, key: str, value: bytes) -> None:
        try:
            await self._storage.put(key, value)
        finally:
            # Also after a failure or a cancellation: the server may have applied it.
            self.invalidate(key)

    async def _delete(self, key: str) -> None:
        try:
            await self._storage.delete(key)
        finally:
            self.invalidate(key)
