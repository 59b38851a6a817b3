"""``config/commit`` and ``config/rollback``: how a rotation ends."""

from datetime import timedelta

from skyflowctl.clock import rfc3339
from skyflowctl.engine import revisions, rotations
from skyflowctl.engine.candidate import same_content
from skyflowctl.engine.contract import EngineReply, Operation
from skyflowctl.engine.fields import Field, FieldType
from skyflowctl.engine.mount import EngineMount
from skyflowctl.engine.paths.config import (
    ID_PATTERN,
    REVOKED_FIELD,
    check_not_revoked,
    written_reply,
)
from skyflowctl.engine.records import ConfigRecord
from skyflowctl.engine.routing import Call, PathOperation, Route
from skyflowctl.skyflow.minting import MintingCredential

_COMMIT_FIELDS = (
    Field(
        "rotation_id",
        FieldType.TEXT,
        "The rotation to commit; 409 if it is not the mount's or has written nothing.",
        required=True,
        limit=128,
        pattern=ID_PATTERN,
    ),
)
_COMMIT = """\
States that every node serves the new credential, so the old one mints no more tokens. The
engine stores cut_over_at and old_tokens_valid_until; the latter adds the longest lifetime
of a token that this engine minted with the old credential, or one hour if it is unknown.
A second commit of the same rotation changes nothing."""
_ROLLBACK_FIELDS = (
    Field(
        "credential_version",
        FieldType.INTEGER,
        "The kept credential to make live; default: the previous one.",
    ),
    Field(
        "cas_credential_version",
        FieldType.INTEGER,
        "Only if this credential version is live, else 409. Writes of other fields do not count.",
    ),
    REVOKED_FIELD,
)
_ROLLBACK = """\
Makes a kept credential live again, as a new credential version. The credential must first
mint for at least one role; each role for which it does not mint is a warning. A destroyed
credential is 409. A rollback ends the open rotation. A rotation that recorded Skyflow's
keys (rotation_keys) stays open, because its key must be deleted there, until a write with
an empty rotation_id closes it."""


class RotationPath:
    """Answers ``config/commit`` and ``config/rollback``."""

    def __init__(self, mount: EngineMount) -> None:
        self._mount = mount

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this module."""
        commit = PathOperation(self.commit, "Commit a rotation.", _COMMIT_FIELDS)
        rollback = PathOperation(
            self.rollback, "Make a kept credential live again.", _ROLLBACK_FIELDS
        )
        return (
            Route("config/commit", "Ends a rotation.", _COMMIT, {Operation.UPDATE: commit}),
            Route(
                "config/rollback",
                "Rolls back to a kept credential.",
                _ROLLBACK,
                {Operation.UPDATE: rollback},
            ),
        )

    async def commit(self, call: Call) -> EngineReply:
        """Commit the open rotation.

        Raises:
            EngineError: 409, it is not this one, or it has written nothing.
        """
        store, now = self._mount.store, self._mount.clock.now
        async with store.writing("config"):
            before = (await store.load_config()).record
            old_life = self._old_life(before)
            record = rotations.committed(before, call.values["rotation_id"], old_life, now())
            if record is not before:
                await store.commit(record)
        rotation = record.rotation
        return written_reply(record, rotation=rotation.public() if rotation else None)

    async def rollback(self, call: Call) -> EngineReply:
        """Make a kept credential live; one that is live to the last field is a success.

        Raises:
            EngineError: 400 for a version that never was, 409 for a destroyed one or a
                lost check-and-set, 502 or 503 for a credential that mints for no role.
        """
        store, values = self._mount.store, call.values
        async with store.writing("config"):
            config = await store.load_config()
            revisions.check_credential_cas(config.record, values.get("cas_credential_version"))
            entry = revisions.rollback_target(config.record, values.get("credential_version"))
            live = config.credential if entry == config.record.live else None
            old = live or await store.kept_credential(entry.slot)
            await check_not_revoked(store, config.record, old, call)
            if config.credential is not None and same_content(old, config.credential):
                await store.commit(config.record)
                return written_reply(config.record, old_tokens_valid_until=None)
            roles = await store.roles()
            warnings = await self._mount.verifier.accept_back(old, roles)
            until = self._tokens_end(config.record)
            record = self._restored(config.record, old, call.request.display_name)
            await store.commit(record, old.account)
        return written_reply(record, warnings, old_tokens_valid_until=until)

    def _restored(self, before: ConfigRecord, old: MintingCredential, by: str) -> ConfigRecord:
        now = self._mount.clock.now()
        record = revisions.with_fields(before, {}, now)
        record = revisions.with_credential(record, old.account, by, now)
        return rotations.rolled_back(before, record)

    def _old_life(self, record: ConfigRecord) -> timedelta | None:
        """Return the longest life seen of a token of the credential that was rotated away."""
        rotation, lifetimes = record.rotation, self._mount.exchanges.lifetimes
        for entry in reversed(record.history):
            if rotation is not None and entry.key_id == rotation.from_key:
                return lifetimes.longest(entry.client_id, entry.key_id)
        return None

    def _tokens_end(self, record: ConfigRecord) -> str | None:
        """Return until when tokens of the credential live that is live now."""
        live, lifetimes = record.live, self._mount.exchanges.lifetimes
        if live is None:
            return None
        life = lifetimes.longest(live.client_id, live.key_id)
        return rfc3339(rotations.end_of_tokens(self._mount.clock.now(), life))
