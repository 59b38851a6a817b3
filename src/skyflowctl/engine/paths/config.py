"""``config``: the mount's credential and its metadata."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from skyflowctl.clock import rfc3339
from skyflowctl.engine import revisions, rotations
from skyflowctl.engine.candidate import (
    FILE,
    INLINE,
    Candidate,
    check_sources,
    read_candidate,
    same_content,
)
from skyflowctl.engine.contract import EngineError, EngineReply, Operation
from skyflowctl.engine.ctx import is_printable
from skyflowctl.engine.fields import Field, FieldType
from skyflowctl.engine.mount import EngineMount
from skyflowctl.engine.records import ConfigRecord, RevocationRecord
from skyflowctl.engine.rotations import Intent
from skyflowctl.engine.routing import Call, PathOperation, Route
from skyflowctl.engine.store import Config, MountStore
from skyflowctl.skyflow.minting import MintingCredential

CREDENTIALS_TYPE = "service_account"
SECRET_LIMIT = 65_536

CREDENTIAL_FIELD = Field(
    INLINE,
    FieldType.SECRET,
    "The service-account credential as JSON text. It is never returned.",
    limit=SECRET_LIMIT,
)
CAS_FIELD = Field(
    "cas",
    FieldType.INTEGER,
    "Write only if this is the current version (0: no config yet), else 409.",
)
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
ROTATION_FIELD = Field(
    "rotation_id",
    FieldType.TEXT,
    "The id of a rotation to open or continue; empty closes it. Another open rotation is "
    "taken over only with cas, and never after it wrote its credential (409).",
    limit=128,
    pattern=ID_PATTERN,
)
REVOKED_FIELD = Field(
    "allow_revoked_key",
    FieldType.TEXT,
    "The key id of a revoked key to allow; without it, 409.",
    limit=128,
    pattern=ID_PATTERN,
)
FILE_FIELD = Field(
    FILE,
    FieldType.TEXT,
    "Absolute path on the server of a credential file in this mount's folder. The file is "
    "read once; a config write stores its content.",
    limit=4096,
)
_WRITE_FIELDS = (
    CREDENTIAL_FIELD,
    FILE_FIELD,
    Field("description", FieldType.TEXT, "What the mount is for."),
    Field("tags", FieldType.TEXTS, "Labels of the mount, such as env:prod.", distinct=True),
    Field(
        "validate_credentials",
        FieldType.BOOLEAN,
        "Mint for every role before accepting a new credential.",
        default=True,
    ),
    CAS_FIELD,
    ROTATION_FIELD,
    Field(
        "rotation_to",
        FieldType.TEXT,
        "With rotation_id: the id of the key that the rotation will write; empty: none yet.",
        limit=128,
        pattern=ID_PATTERN,
    ),
    Field(
        "rotation_keys",
        FieldType.TEXTS,
        "With rotation_id: the key ids at Skyflow before the rotation creates a key.",
        limit=128,
        distinct=True,
        pattern=ID_PATTERN,
    ),
    REVOKED_FIELD,
)
REASON_LENGTH = 200
_DELETE_FIELDS = (
    CAS_FIELD,
    Field(
        "reason",
        FieldType.TEXT,
        "The reason, such as an incident number, in 1 to 200 printable characters. A config "
        "read returns it until the next credential.",
        limit=REASON_LENGTH,
    ),
    Field(
        "run",
        FieldType.TEXT,
        "The id of the run that sends the request.",
        limit=128,
        pattern=ID_PATTERN,
    ),
)
_DESCRIPTION = """\
Stores one Skyflow service-account credential, which is never returned. A write is a
patch: absent fields keep their value, "" or [] clears a field. The first write requires a
credential. A new credential is accepted only if it mints for every role for which the
live one mints. A delete is the cut-off: it destroys the live credential and every kept
one, but keeps the history's entries. Their keys stay revoked: a write of or a rollback to
such a key is 409, unless allow_revoked_key names it."""


class ConfigPath:
    """Answers ``config``."""

    def __init__(self, mount: EngineMount) -> None:
        self._mount = mount

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this module."""
        actions = {
            Operation.READ: PathOperation(self.read, "Read the config, without the credential."),
            Operation.UPDATE: PathOperation(
                self.write, "Write the config; absent fields keep their value.", _WRITE_FIELDS
            ),
            Operation.DELETE: PathOperation(
                self.delete, "Destroy every credential of the mount.", _DELETE_FIELDS
            ),
        }
        return (Route("config", "The mount's Skyflow credential.", _DESCRIPTION, actions),)

    async def read(self, call: Call) -> EngineReply:  # noqa: ARG002 - all handlers look alike
        """Return the config; warn about another engine's unusable credential."""
        config = await self._mount.store.config()
        unusable = config.unusable()
        shown = _public(config)
        if self._mount.settings.process is not None:
            shown["process"] = dict(self._mount.settings.process)
        return EngineReply(shown, (unusable,) if unusable else ())

    async def write(self, call: Call) -> EngineReply:
        """Patch the config; the order of its puts leaves either the old or the new state.

        Raises:
            EngineError: 400, 409 for a lost check-and-set, 502 or 503 for a credential
                that does not mint.
        """
        check_sources(call.values, self._mount.settings)
        intent = Intent.of(call.values)
        async with self._mount.store.writing("config"):
            config = await self._mount.store.load_config()
            revisions.check_cas(config.record, call.values.get("cas"))
            candidate = await self._candidate(call)
            if candidate is None and not rotations.ends_cut_off(config.record, intent):
                config.usable()
            new = _if_new(candidate, config.credential)
            if new is not None:
                await check_not_revoked(self._mount.store, config.record, new, call)
            # Before anything is minted: a rotation that may not go on is refused at once.
            record = self._next(config.record, candidate, new, call)
            warnings = candidate.warnings if candidate else ()
            if new is not None and call.values["validate_credentials"]:
                roles = await self._mount.store.roles()
                warnings += await self._mount.verifier.accept(new, config.credential, roles)
            if new is not None:
                await self._mount.store.mark_earlier_cut_off(config.record)
            await self._mount.store.commit(record, new.account if new else None)
        return written_reply(record, warnings)

    async def delete(self, call: Call) -> EngineReply:
        """Cut the mount off; a repetition finishes what a kill interrupted.

        Raises:
            EngineError: 400, the reason is blank or holds a line break; 409, another version
                is live than the caller expects.
        """
        store = self._mount.store
        revocation = RevocationRecord(
            self._mount.clock.now(),
            call.request.display_name,
            _reason(call.values),
            call.values.get("run", ""),
        )
        async with store.writing("config"):
            record = await store.record_to_cut_off()
            revisions.check_cas(record, call.values.get("cas"))
            until = rotations.tokens_after_cut_off(record, self._token_life(record), revocation.at)
            record = await store.cut_off(record, replace(revocation, tokens_until=until))
        if not record.version:
            return EngineReply()
        left = record.cut_off.tokens_until if record.cut_off else None
        return written_reply(record, old_tokens_valid_until=rfc3339(left) if left else None)

    async def _candidate(self, call: Call) -> Candidate | None:
        return await read_candidate(
            call.values,
            call.request.mount_point,
            self._mount.settings,
            self._mount.clock.now(),
        )

    def _next(
        self,
        record: ConfigRecord,
        candidate: Candidate | None,
        new: MintingCredential | None,
        call: Call,
    ) -> ConfigRecord:
        now, by = self._mount.clock.now(), call.request.display_name
        key_id = candidate.credential.account.key_id if candidate else ""
        intent, old_life = Intent.of(call.values), self._token_life(record)
        record = revisions.with_fields(record, call.values, now)
        if intent is not None:
            record = rotations.opened(record, intent, by, now)
            if key_id:
                record = rotations.rotated_to(record, key_id, old_life)
        elif new is not None:
            # Whoever replaces the credential outside of a rotation has ended it.
            record = replace(record, rotation=None)
        if new is not None:
            record = revisions.with_credential(record, new.account, by, now)
        return record

    def _token_life(self, record: ConfigRecord) -> timedelta | None:
        """Return the longest life seen of a token of the live credential."""
        live, lifetimes = record.live, self._mount.exchanges.lifetimes
        return lifetimes.longest(live.client_id, live.key_id) if live else None


async def check_not_revoked(
    store: MountStore, record: ConfigRecord, new: MintingCredential, call: Call
) -> None:
    """Refuse to make a revoked key live again, unless the call names it.

    Raises:
        EngineError: 409.
    """
    if call.values.get(REVOKED_FIELD.name) == new.account.key_id:
        return
    if await store.is_revoked(record, new.account):
        raise EngineError(
            409,
            "this key was revoked by a cut-off of the mount: write a new key, or name this one in "
            f"{REVOKED_FIELD.name}",
        )


def _reason(values: Mapping[str, Any]) -> str:
    if "reason" not in values:
        return ""
    reason: str = values["reason"]
    if not reason.strip() or not is_printable(reason):
        raise EngineError(400, f"reason: not 1 to {REASON_LENGTH} printable characters")
    return reason


def _if_new(
    candidate: Candidate | None, live: MintingCredential | None
) -> MintingCredential | None:
    """Return the candidate's credential, or None if it is the live one to the last field."""
    if candidate is None or (live is not None and same_content(live, candidate.credential)):
        return None
    return candidate.credential


def written_reply(record: ConfigRecord, warnings: tuple[str, ...] = (), **more: Any) -> EngineReply:
    """Return the answer to a write of the config: what is live after it."""
    live = record.live
    data = {
        "version": record.version,
        "credential_version": record.credential_version,
        "client_id": live.client_id if live else "",
        "key_id": live.key_id if live else "",
        "warnings": list(warnings),
    }
    return EngineReply({**data, **more}, warnings)


def _public(config: Config) -> dict[str, Any]:
    record = config.record
    account = config.credential.account if config.credential else None
    times = (
        ("key_valid_after", account.key_valid_after if account else None),
        ("key_valid_before", account.key_valid_before if account else None),
        ("credential_updated", record.credential_updated),
        ("last_updated", record.last_updated),
    )
    return {
        "credentials_configured": account is not None,
        "credentials_type": CREDENTIALS_TYPE if account else "",
        "client_id": account.client_id if account else "",
        "client_name": account.client_name if account else "",
        "key_id": account.key_id if account else "",
        "token_uri": account.token_uri if account else "",
        "description": record.description,
        "tags": list(record.tags),
        "version": record.version,
        "credential_version": record.credential_version,
        "rotation": record.rotation.public() if record.rotation else None,
        "revoked": record.cut_off.public() if record.cut_off else None,
        **{name: rfc3339(moment) if moment else None for name, moment in times},
    }
