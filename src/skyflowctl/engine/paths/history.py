"""``config/history``: which credentials a mount has had."""

from skyflowctl.engine import revisions, rotations
from skyflowctl.engine.contract import EngineError, EngineReply, Operation
from skyflowctl.engine.mount import EngineMount
from skyflowctl.engine.paths.config import written_reply
from skyflowctl.engine.routing import PAGE_FIELDS, Call, PathOperation, Route, page

_DESCRIPTION = """\
One entry per credential version: its key, who wrote it and when, and whether the credential
is still kept (the last three are). The credential itself is never returned. Deleting a
version destroys its kept credential, under every version that holds it, and keeps the
entry. The live credential is 409 (delete config for the cut-off), and so is the one that
an open rotation has replaced."""


class HistoryPath:
    """Answers ``config/history``."""

    def __init__(self, mount: EngineMount) -> None:
        self._mount = mount

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this module."""
        listing = PathOperation(self.list, "List the credential versions.", PAGE_FIELDS)
        reading = PathOperation(self.read, "Read one entry of the history.")
        destroying = PathOperation(self.destroy, "Destroy one kept credential.")
        return (
            Route(
                "config/history",
                "The credential versions of the mount.",
                _DESCRIPTION,
                {Operation.LIST: listing},
            ),
            Route(
                "config/history/{version}",
                "One credential version of the mount.",
                _DESCRIPTION,
                {Operation.READ: reading, Operation.DELETE: destroying},
                segment="The credential version, from 1.",
            ),
        )

    async def list(self, call: Call) -> EngineReply:
        """Answer all credential versions, with their entries in ``key_info``."""
        record = (await self._mount.store.config()).record
        entries = {str(entry.credential_version): entry.public() for entry in record.history}
        # The order of the numbers, so that `after` is read as one.
        after = call.values.get("after", "")
        number = int(after) if after.isdecimal() and len(after) < 10 else 0
        later = [key for key in entries if int(key) > number]
        keys = page(later, {"limit": call.values.get("limit", 0)})
        return EngineReply(
            {"keys": keys, "key_info": {key: entries[key] for key in keys}} if keys else None
        )

    async def read(self, call: Call) -> EngineReply:
        """Answer one entry, or nothing."""
        entry = (await self._mount.store.config()).record.entry(int(call.segment))
        return EngineReply(entry.public() if entry else None)

    async def destroy(self, call: Call) -> EngineReply:
        """Destroy a kept credential; a repetition finishes what a kill interrupted.

        Raises:
            EngineError: 400 for an unknown version, 409 for the live credential, and for
                the one that an open rotation replaced.
        """
        store = self._mount.store
        async with store.writing("config"):
            record = (await store.load_config()).record
            entry = revisions.find_entry(record, int(call.segment))
            if entry is not None and entry == record.live:
                raise EngineError(409, "this credential is the live one")
            if entry is not None and entry.kept:
                rotations.check_destroyable(record, entry)
                record = revisions.without_credential(record, entry, self._mount.clock.now())
                record = rotations.retired(record, entry)
            await store.commit(record)
        return written_reply(record)
