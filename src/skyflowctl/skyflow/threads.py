"""Short work of an event loop in threads: signatures, for which the interpreter is not needed.

The pool of ``skyflowctl.concurrency`` belongs to one command; this one lives with the process.
"""

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")


@functools.cache
def signers() -> Executor:
    """Return the threads for signatures.

    They are not the event loop's own threads, which a slow answer of DNS keeps busy.
    """
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="sign")


async def finished_in_thread(work: Callable[..., _T], *arguments: object) -> _T:
    """Return the result of a call in one of the threads.

    A task that is cancelled here goes on only when its call has ended or will never begin. So
    who limits the tasks limits the threads' work too.
    """
    future = signers().submit(work, *arguments)
    result = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(result)
    except asyncio.CancelledError:
        begun = not future.cancel()
        while begun and not result.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([result])
        raise
