"""``config/history``: which credentials a mount has had."""

from skyflowctl.engine.contract import Operation, Reply
from skyflowctl.engine.mount import Mount
from skyflowctl.engine.routing import PAGE_FIELDS, Action, Call, Route, page

_DESCRIPTION = """\
One entry per credential version: its key, when and by whom it was written, and whether
the credential itself is still kept (the last three are). Never the credential."""


class HistoryPath:
    """Answers ``config/history``."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this module."""
        listing = Action(self.list, "List the credential versions.", PAGE_FIELDS)
        reading = Action(self.read, "Read one entry of the history.")
        return (
            Route(
                "config/history",
                "The credentials this mount has had.",
                _DESCRIPTION,
                {Operation.LIST: listing},
            ),
            Route(
                "config/history/{version}",
                "One credential this mount has had.",
                _DESCRIPTION,
                {Operation.READ: reading},
                segment="The credential version, a number from 1.",
            ),
        )

    async def list(self, call: Call) -> Reply:
        """Answer all credential versions, with their entries in ``key_info``."""
        record = (await self._mount.store.config()).record
        entries = {str(entry.credential_version): entry.public() for entry in record.history}
        # The order of the numbers, so that `after` is read as one.
        after = call.values.get("after", "")
        number = int(after) if after.isdecimal() and len(after) < 10 else 0
        later = [key for key in entries if int(key) > number]
        keys = page(later, {"limit": call.values.get("limit", 0)})
        return Reply(
            {"keys": keys, "key_info": {key: entries[key] for key in keys}} if keys else None
        )

    async def read(self, call: Call) -> Reply:
        """Answer one entry, or nothing."""
        record = (await self._mount.store.config()).record
        wanted = int(call.segment)
        found = [entry for entry in record.history if entry.credential_version == wanted]
        return Reply(found[-1].public() if found else None)
