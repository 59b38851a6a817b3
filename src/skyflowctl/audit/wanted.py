"""A ctx that is looked for, in every form in which a log may hold it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from skyflowctl.audit.ctx import ctx_text
from skyflowctl.audit.globs import is_glob, literals

Hashes = Callable[[str], tuple[str, ...]]
"""Returns a text as each audit device hashes it, always in the same order of devices."""


@dataclass(frozen=True, slots=True)
class CtxWanted:
    """What to look for.

    Args:
        forms: the texts that stand for it: plain, and hashed as each device does it.
        glob: what a plain ctx may look like; empty: only ``forms`` count.
        looks: for each form the texts that every line has which holds it.
    """

    forms: tuple[str, ...]
    glob: str = ""
    looks: tuple[tuple[str, ...], ...] = ()


def unhashed(_: str) -> tuple[str, ...]:
    """Return no hash: there is no server to ask."""
    return ()


def wanted_ctx(ctx: str | Mapping[str, Any], hashes: Hashes = unhashed) -> CtxWanted:
    """Return what to look for.

    Args:
        ctx: a text, which may be a glob; empty for requests without a ctx; or an object.
        hashes: asked once for every text.
    """
    if not isinstance(ctx, str):
        return _object(ctx, hashes)
    glob = ctx if is_glob(ctx) else ""
    forms = (ctx, *(hashes(ctx) if ctx else ()))
    return CtxWanted(forms, glob, (literals(ctx), *((form,) for form in forms[1:])))


def _object(ctx: Mapping[str, Any], hashes: Hashes) -> CtxWanted:
    """Return an object's forms: its texts are hashed, each for itself, and nothing else."""
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
