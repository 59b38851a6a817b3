"""``roles``: the uses of a mount, each mapped to one Skyflow role."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from skyflowctl.engine.contract import EngineError, EngineReply, Operation
from skyflowctl.engine.ctx import CtxRule, InvalidCtxError, check_probe
from skyflowctl.engine.fields import Field, FieldType, parse_fields
from skyflowctl.engine.mount import EngineMount
from skyflowctl.engine.names import (
    PER_ENTITY,
    PER_ROLE,
    REUSE_LONGEST_TTL,
    REUSE_SHORTEST_TTL,
    ROLE_ID,
    SIGN_LONGEST_TTL,
    SIGN_MAX_TTL,
)
from skyflowctl.engine.records import RoleRecord, UnusableRecordError
from skyflowctl.engine.routing import PAGE_FIELDS, Call, PathOperation, Route, page

_CAS = Field(
    "cas",
    FieldType.INTEGER,
    "Only if this is the role's version (0: no role yet), else 409.",
)
_FIELDS = (
    Field("role_ids", FieldType.TEXTS, "The id of exactly one Skyflow role."),
    Field("description", FieldType.TEXT, "What the role is for."),
    Field("tags", FieldType.TEXTS, "Labels of the role.", distinct=True),
    Field(
        "ctx_required",
        FieldType.BOOLEAN,
        "A ctx is required. Default: true if there is a pattern.",
        clearable=True,
    ),
    Field(
        "ctx_pattern",
        FieldType.TEXT,
        "The form of the whole ctx, case-sensitive; * at either end matches any text.",
        limit=512,
    ),
    Field(
        "ctx_probe",
        FieldType.CTX,
        "The ctx for verification; it must satisfy the role's ctx rule.",
        clearable=True,
    ),
    Field(
        "sign_max_ttl",
        FieldType.DURATION,
        "The longest life of a signed data token, 1s to 24h. Default: 15m.",
        clearable=True,
    ),
    Field(
        "reuse_min_ttl",
        FieldType.DURATION,
        "Answer a token again while it is valid for this long, 5m to 50m. Default: 0 (never).",
        clearable=True,
    ),
    Field(
        "reuse_per",
        FieldType.TEXT,
        "Who shares a token: the logins of one entity (default), or all readers of the role.",
        limit=16,
    ),
    Field("force", FieldType.BOOLEAN, "False: fail with 409 if the role exists.", default=True),
    _CAS,
)
_DESCRIPTION = """\
A role names one Skyflow role and the ctx that its tokens may carry. A write is a patch:
absent fields keep their value, "" or [] clears a field. A role that requires a ctx, or has
a pattern, needs a probe, which is the ctx for verifying credentials."""
_PATCHED = (
    "role_ids",
    "description",
    "tags",
    "ctx_required",
    "ctx_pattern",
    "ctx_probe",
    "sign_max_ttl",
    "reuse_min_ttl",
    "reuse_per",
)
_DEFAULTS: Mapping[str, Any] = {
    "ctx_probe": "",
    "sign_max_ttl": SIGN_MAX_TTL,
    "reuse_min_ttl": 0,
    "reuse_per": PER_ENTITY,
}


class RolesPath:
    """Answers ``roles`` and ``roles/<name>``."""

    def __init__(self, mount: EngineMount) -> None:
        self._mount = mount

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this module."""
        listing = PathOperation(
            self.list, "List the roles; key_info has the fields of each.", PAGE_FIELDS
        )
        one = {
            Operation.READ: PathOperation(self.read, "Read a role."),
            Operation.UPDATE: PathOperation(
                self.write, "Write a role; absent fields keep their value.", _FIELDS
            ),
            Operation.DELETE: PathOperation(self.delete, "Delete a role.", (_CAS,)),
        }
        return (
            Route("roles", "The roles of this mount.", _DESCRIPTION, {Operation.LIST: listing}),
            Route("roles/{name}", "One role.", _DESCRIPTION, one, segment="The role's name."),
        )

    async def list(self, call: Call) -> EngineReply:
        """Answer the names, and every role's fields in ``key_info``.

        A stored role that cannot be used is not a key; a warning gives its name and the reason.
        """
        store = self._mount.store
        roles, unusable = await store.load_roles(page(await store.role_names(), call.values))
        warnings = tuple(unusable.values())
        if not roles and not unusable:
            return EngineReply()
        info = {name: role.public() for name, role in roles.items()}
        data = {"keys": list(roles), "key_info": info}
        return EngineReply(data | ({"unusable": unusable} if unusable else {}), warnings)

    async def read(self, call: Call) -> EngineReply:
        """Answer one role, or nothing."""
        role = await self._mount.store.role(call.segment)
        return EngineReply(role.public() if role else None)

    async def write(self, call: Call) -> EngineReply:
        """Create or patch a role.

        Raises:
            EngineError: 400 for a broken rule, 409 if it exists or has another version.
        """
        store = self._mount.store
        async with store.writing("role"):
            role = await self._present(call.segment)
            _check_cas(role, call.values.get("cas"))
            if role is not None and not call.values["force"]:
                raise EngineError(409, "the role exists already")
            changed = _patched(role, call.values, self._mount.clock.now())
            await store.put_role(call.segment, changed)
        return EngineReply({"version": changed.version})

    async def _present(self, name: str) -> RoleRecord | None:
        """Return the role to be patched; None for one of another engine that is unusable."""
        try:
            return await self._mount.store.load_role(name)
        except UnusableRecordError as error:
            if error.foreign:
                return None
            raise

    async def delete(self, call: Call) -> EngineReply:
        """Delete a role; a missing role is not an error.

        Raises:
            EngineError: 409, it has another version than the caller expects.
        """
        store = self._mount.store
        async with store.writing("role"):
            if "cas" in call.values:
                _check_cas(await store.load_role(call.segment), call.values["cas"])
            await store.delete_role(call.segment)
        return EngineReply()


def role_as_written(fields: Mapping[str, Any], now: datetime) -> Mapping[str, Any]:
    """Return the fields of a whole role as the engine would answer them, without a write.

    Raises:
        EngineError: 400, a write of these fields would break a rule.
    """
    return _patched(None, parse_fields(_FIELDS, fields, query=False), now).public()


def _check_cas(role: RoleRecord | None, expected: int | None) -> None:
    if expected is not None and expected != (role.version if role else 0):
        raise EngineError(409, "check-and-set failed: another version of the role is live")


def _patched(role: RoleRecord | None, values: Mapping[str, Any], now: datetime) -> RoleRecord:
    fields: dict[str, Any] = {"role_ids": ()}
    if role is not None:
        fields = {name: getattr(role, name) for name in _PATCHED}
    fields |= {name: values[name] for name in _PATCHED if name in values}
    cleared = (name for name in _DEFAULTS if name in fields and fields[name] in (None, ""))  # noqa: PLR6201 - a probe may be a dict
    fields |= {name: _DEFAULTS[name] for name in tuple(cleared)}
    changed = RoleRecord(
        version=role.version + 1 if role else 1,
        created=role.created if role else now,
        last_updated=now,
        **fields,
    )
    _check_role(changed)
    return changed


def _check_role(role: RoleRecord) -> None:
    if len(role.role_ids) != 1:
        raise EngineError(400, "role_ids: exactly one is needed")
    if not ROLE_ID.fullmatch(role.role_ids[0]):
        raise EngineError(400, "role_ids: an id has letters, digits, . _ and - only")
    try:
        rule = CtxRule.of(role.ctx_required, role.ctx_pattern)
    except InvalidCtxError as error:
        raise EngineError(400, f"ctx_pattern: {error.reason}") from None
    try:
        check_probe(rule, role.ctx_probe)
    except InvalidCtxError as error:
        raise EngineError(400, f"ctx_probe: {error.reason}") from None
    if not 1 <= role.sign_max_ttl <= SIGN_LONGEST_TTL:
        raise EngineError(400, "sign_max_ttl: not from 1 second to 24 hours")
    if role.reuse_min_ttl and not REUSE_SHORTEST_TTL <= role.reuse_min_ttl <= REUSE_LONGEST_TTL:
        raise EngineError(400, "reuse_min_ttl: neither 0 nor from 5 to 50 minutes")
    if role.reuse_per not in {PER_ENTITY, PER_ROLE}:
        raise EngineError(400, f"reuse_per: neither {PER_ENTITY} nor {PER_ROLE}")
