"""Finds a ctx in every form in which a log may contain it."""

from collections.abc import Callable, Mapping
from typing import Any

from skyflowctl.audit.ctx import ctx_text
from skyflowctl.audit.globs import is_glob, literals
from skyflowctl.frozen import dataclass

Hashes = Callable[[str], tuple[str, ...]]
"""Returns the hashes of a text by each audit device, always in the same order of devices."""


@dataclass(frozen=True, slots=True)
class CtxWanted:
    """The ctx to search for.

    Args:
        forms: its logged forms: plain, and hashed by each device.
        glob: a glob for a plain ctx; empty: only ``forms`` count.
        looks: for each form, the texts in every line that contains the form.
    """

    forms: tuple[str, ...]
    glob: str = ""
    looks: tuple[tuple[str, ...], ...] = ()


def unhashed(_: str) -> tuple[str, ...]:
    """Return no hash, because no server can be asked."""
    return ()


def wanted_ctx(ctx: str | Mapping[str, Any], hashes: Hashes = unhashed) -> CtxWanted:
    """Return the forms of a ctx to search for.

    Args:
        ctx: a text, which may be a glob; empty for requests without a ctx; or an object.
        hashes: called once for every text.
    """
    if not isinstance(ctx, str):
        return _object(ctx, hashes)
    glob = ctx if is_glob(ctx) else ""
    forms = (ctx, *(hashes(ctx) if ctx else ()))
    return CtxWanted(forms, glob, (literals(ctx), *((form,) for form in forms[1:])))


def _object(ctx: Mapping[str, Any], hashes: Hashes) -> CtxWanted:
    """Return an object's forms: each of its texts is hashed separately, nothing else is hashed."""
    hashed = {name: hashes(value) for name, value in ctx.items() if isinstance(value, str)}
    devices = max((len(each) for each in hashed.values()), default=0)
    objects = [dict(ctx)]
    objects += [
        {**ctx, **{name: each[at] for name, each in hashed.items()}} for at in range(devices)
    ]
    return CtxWanted(
        forms=tuple(ctx_text(one)[0] for one in objects),
        looks=tuple(
            (*one, *(value for value in one.values() if isinstance(value, str))) for one in objects
        ),
    )
