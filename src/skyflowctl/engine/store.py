"""One mount's stored state: cached for reads, and written so that a kill leaves no half.

Caches are dropped on own writes and when the server says that another node wrote. A load
that began before such a drop is used once and not kept: it may have read the old value.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import field

from skyflowctl.engine import revisions
from skyflowctl.engine.contract import EngineError, Storage, StorageError
from skyflowctl.engine.foreign import LEFT, decode_config, decode_role
from skyflowctl.engine.mount_options import EarlierCutOff
from skyflowctl.engine.records import (
    CONFIG_KEY,
    CREDENTIAL_PREFIX,
    ROLE_PREFIX,
    WAL_PREFIX,
    ConfigRecord,
    RevocationRecord,
    RoleRecord,
    UnusableRecordError,
    credential_bytes,
    load_record,
    presence_mark,
    revoked_bytes,
    revoked_key_path,
)
from skyflowctl.frozen import dataclass
from skyflowctl.skyflow.minting import InvalidKeyError, MintingCredential, SigningKey
from skyflowctl.skyflow.service_account import InvalidCredentialError, ServiceAccount, load_trusted

_PARALLEL_LOADS = 16
_NOT_CONFIGURED = "not_configured"
_UNREADABLE = "skyflow: the stored credential cannot be read on this node"


def _ready(slot: str, stored: bytes) -> MintingCredential:
    """Return a stored credential ready to sign; its key was checked before it was stored.

    Raises:
        UnusableRecordError: it is damaged, or a newer engine wrote it.
    """
    key = CREDENTIAL_PREFIX + slot
    load_record(key, stored)
    try:
        return _signing(load_trusted(stored.decode()))
    except (InvalidCredentialError, InvalidKeyError):
        raise UnusableRecordError(key, "is damaged: write the credential again") from None


def _signing(account: ServiceAccount) -> MintingCredential:
    return MintingCredential(account, SigningKey.trusted(account.private_key))


@dataclass(frozen=True, slots=True)
class Config:
    """A mount's config with its live credential ready to sign; None when there is none."""

    record: ConfigRecord = field(default_factory=ConfigRecord)
    credential: MintingCredential | None = None

    def usable(self) -> MintingCredential:
        """Return the live credential.

        Raises:
            EngineError: 400, there is none, or one of another engine that is unusable.
        """
        if self.credential is None:
            if self.record.foreign:
                reason = self.unusable()
                raise EngineError(400, f"mount not configured: {reason}", _NOT_CONFIGURED)
            raise EngineError(400, "mount not configured", _NOT_CONFIGURED)
        return self.credential

    def unusable(self) -> str:
        """Say why the credential that another engine left is unusable; empty: none is."""
        foreign = self.record.foreign
        return f"its credential {LEFT}: {foreign.reason}" if foreign and foreign.reason else ""


class MountStore:
    """Reads and writes one mount's records."""

    def __init__(self, storage: Storage, earlier: EarlierCutOff | None = None) -> None:
        self._storage = storage
        self._earlier = earlier
        self._lock = asyncio.Lock()
        self._config: Config | None = None
        self._parsed: tuple[str, MintingCredential] | None = None
        self._roles: dict[str, RoleRecord] = {}
        self._generation = 0

    @property
    def generation(self) -> int:
        """A number that changes whenever anything cached may have become wrong."""
        return self._generation

    @property
    def known_config(self) -> Config | None:
        """The config, if it is cached."""
        return self._config

    def knows_role(self, name: str) -> bool:
        """Whether a role of this name is cached."""
        return name in self._roles

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
            await self._storage.put(key, presence_mark())
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
        record = decode_config(raw) if raw else self._nothing()
        if record.live is None:
            self._parsed = None
            return Config(record)
        if record.foreign and record.foreign.account:
            return Config(record, _signing(record.foreign.account))
        credential = await self._credential(record.live.slot)
        return Config(record, credential) if credential else None

    async def record_to_cut_off(self) -> ConfigRecord:
        """Return the config's record without its credential, which may be unreadable.

        A damaged one counts as configured: a cut-off must not fail because of it.

        Raises:
            UnusableRecordError: a newer engine wrote it, and may keep credentials elsewhere.
        """
        raw = await self._storage.get(CONFIG_KEY)
        try:
            return decode_config(raw) if raw else self._nothing()
        except UnusableRecordError as error:
            if error.newer:
                raise
            return ConfigRecord(configured=True)

    def _nothing(self) -> ConfigRecord:
        """Return the record of a mount that has none; another engine may have cut it off."""
        return ConfigRecord(revoked=self._earlier.record if self._earlier else None)

    async def _credential(self, slot: str) -> MintingCredential | None:
        """Return a stored credential; what was committed under a slot never changes."""
        if self._parsed and self._parsed[0] == slot:
            return self._parsed[1]
        generation = self._generation
        raw = await self._storage.get(CREDENTIAL_PREFIX + slot)
        if raw is None:
            return None
        credential = _ready(slot, raw)
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
        return _ready(slot, raw)

    async def role(self, name: str) -> RoleRecord | None:
        """Return a role, from the cache when it is warm; None when there is none."""
        return self._roles.get(name) or await self.load_role(name)

    async def load_role(self, name: str) -> RoleRecord | None:
        """Return a role as the storage has it now.

        Raises:
            UnusableRecordError: there is one that this engine cannot use.
        """
        generation = self._generation
        raw = await self._storage.get(ROLE_PREFIX + name)
        if raw is None:
            return None
        role = decode_role(name, raw)
        if generation == self._generation:
            self._roles[name] = role
        return role

    async def role_names(self) -> list[str]:
        """Return the names of all roles, sorted."""
        return sorted(await self._storage.list(ROLE_PREFIX))

    async def roles(self, names: Iterable[str] | None = None) -> dict[str, RoleRecord]:
        """Return the usable roles of these names (None: all) that exist, in that order."""
        return (await self.load_roles(names))[0]

    async def load_roles(
        self, names: Iterable[str] | None = None
    ) -> tuple[dict[str, RoleRecord], dict[str, str]]:
        """Return the roles of these names that exist, and why others are unusable."""
        wanted = list(names) if names is not None else await self.role_names()
        gate = asyncio.Semaphore(_PARALLEL_LOADS)

        async def load(name: str) -> RoleRecord | UnusableRecordError | None:
            async with gate:
                try:
                    return await self.role(name)
                except UnusableRecordError as error:
                    return error

        found = dict(
            zip(wanted, await asyncio.gather(*(load(name) for name in wanted)), strict=True)
        )
        usable = {name: one for name, one in found.items() if isinstance(one, RoleRecord)}
        refused = {
            name: one.message for name, one in found.items() if isinstance(one, UnusableRecordError)
        }
        return usable, refused

    async def put_config(self, record: ConfigRecord) -> None:
        """Store the config: from here on it is the mount's state.

        A credential that another engine's config held is stored before it, if it is kept.
        """
        foreign = record.foreign
        if foreign and foreign.account and foreign.slot in record.kept_slots():
            await self.put_credential(foreign.slot, foreign.account)
        await self._put(CONFIG_KEY, record.to_bytes())

    async def put_credential(self, slot: str, account: ServiceAccount) -> None:
        """Store a credential under a slot that no committed config names yet."""
        await self._put(CREDENTIAL_PREFIX + slot, credential_bytes(account))

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

    async def cut_off(self, record: ConfigRecord, revocation: RevocationRecord) -> ConfigRecord:
        """Destroy every credential and return the record without one; a repetition finishes it.

        The keys are marked first, permanently and outside the config, so that no later write
        of the config, by any release, loses the marks.
        """
        for who in await self._keys_to_revoke(record):
            await self._mark_revoked(who, revocation)
        after = revisions.revoked_record(record, revocation)
        if after is not record:
            await self.put_config(after)
        await self.keep_credentials(())
        return after

    async def _keys_to_revoke(self, record: ConfigRecord) -> set[tuple[str, str]]:
        """Return the client and key ids of the live credential and of every kept one."""
        kept = {entry.identity for entry in record.history if entry.kept}
        if record.cut_off and record.history:
            kept.add(record.history[-1].identity)
        if record.foreign and all(record.foreign.identity):
            kept.add(record.foreign.identity)
        if record.history or not record.configured:
            return kept
        # The config is damaged: the stored credentials show what it named.
        for slot in await self._storage.list(CREDENTIAL_PREFIX):
            raw = await self._storage.get(CREDENTIAL_PREFIX + slot)
            with suppress(UnusableRecordError):
                stored = load_record(CREDENTIAL_PREFIX + slot, raw or b"")
                kept.add((str(stored.get("clientID")), str(stored.get("keyID"))))
        return kept

    async def mark_earlier_cut_off(self, record: ConfigRecord) -> None:
        """Mark the key of an earlier engine's cut-off, before a new one takes its place."""
        earlier = self._earlier
        if earlier and earlier.client_id and earlier.record.key_id:
            await self._mark_revoked((earlier.client_id, earlier.record.key_id), earlier.record)
        if record.cut_off is None or record.revoked is not None:
            return
        await self._mark_revoked(record.history[-1].identity, record.cut_off)

    async def _mark_revoked(self, who: tuple[str, str], revocation: RevocationRecord) -> None:
        key = revoked_key_path(*who)
        if await self._storage.get(key) is None:
            await self._put(key, revoked_bytes(*who, revocation))

    async def is_revoked(self, record: ConfigRecord, account: ServiceAccount) -> bool:
        """Tell whether a cut-off revoked this key, and it is not live since by permission."""
        who = (account.client_id, account.key_id)
        if record.live and record.live.identity == who:
            return False
        if self._earlier and self._earlier.record.key_id == account.key_id:
            return True
        if record.cut_off and record.history and record.history[-1].identity == who:
            # Also where an earlier release cut it off, which left no mark.
            return True
        return await self._storage.get(revoked_key_path(*who)) is not None

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
