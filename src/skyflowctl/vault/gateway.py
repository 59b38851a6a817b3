"""Typed calls to a server, shared by all transports, and the live state that a plan needs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

from skyflowctl.concurrency import Workers
from skyflowctl.errors import Problem
from skyflowctl.vault import revocations
from skyflowctl.vault.engine_api import EngineClient
from skyflowctl.vault.errors import (
    BusyError,
    ForbiddenError,
    NamespaceMissingError,
    OutcomeUnknownError,
    SealedError,
    ServerUnreachableError,
    VaultError,
)
from skyflowctl.vault.live import LiveConfig, LiveEngine, LiveMount, LiveRole, LiveState
from skyflowctl.vault.responses import ClusterNode
from skyflowctl.vault.system_api import SystemApi
from skyflowctl.vault.transport import Transport
from skyflowctl.vault.waits import within

MOUNT_SECONDS = 10.0
"""The time limit for one mount's config or list of roles."""

_T = TypeVar("_T")
_Roles = tuple[Mapping[str, LiveRole], Mapping[str, str]]
_WHOLE_SERVER = (SealedError, ServerUnreachableError, BusyError, NamespaceMissingError)


class Gateway:
    """The interface to the server for the rest of skyflowctl.

    Every method raises :class:`skyflowctl.vault.errors.VaultError`.

    Attributes:
        sys: the typed calls to the server itself.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.sys = SystemApi(transport)

    def engine(self, path: str) -> EngineClient:
        """Return the typed calls to the engine of one mount; nothing is sent yet."""
        return EngineClient(self.transport, path)

    def node(self, address: str) -> "Gateway":
        """Return a gateway to a single node; see :meth:`Transport.at_node`."""
        return Gateway(self.transport.at_node(address))

    @property
    def requests_made(self) -> int:
        """The number of requests so far; resent ones count once."""
        return self.transport.requests_made

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    def read_live_state(
        self, paths: Sequence[str], plugin_name: str, *, parallelism: int = 8
    ) -> LiveState:
        """Read what a plan needs, in exactly 2 + 2N requests.

        N counts the given paths that are mounted with the plugin's type; an engine without
        ``key_info`` in its role list costs one more request per role. A mount that cannot be
        read is in ``problems``; only a failure of the whole server is raised.

        Args:
            paths: the mounts whose engine is read.
            plugin_name: the engine's mount type.
            parallelism: how many requests run at once.
        """
        with Workers(parallelism) as pool:
            headers = pool.submit(self.sys.audited_headers)
            mounted = self.sys.mounts()
            wanted = [path for path in dict.fromkeys(paths) if path in mounted]
            ours = [path for path in wanted if mounted[path].type == plugin_name]
            configs = {path: pool.submit(in_time, self.engine(path).config) for path in ours}
            listed = {path: pool.submit(in_time, self.engine(path).all_roles) for path in ours}
            engines: dict[str, LiveEngine] = {}
            problems: dict[str, Problem] = {}
            for path in ours:
                engine = _engine(mounted[path], configs[path].result, listed[path].result)
                if isinstance(engine, LiveEngine):
                    engines[path] = engine
                else:
                    problems[path] = engine
            if problems and not engines:
                self.sys.mounts()  # checks whether the server itself still answers
            return LiveState(mounted, engines, headers.result(), problems)

    def with_engines(self, state: LiveState, paths: Sequence[str]) -> LiveState:
        """Return the state with the engines of further mounts and their history.

        This costs three requests per mount. A mount that cannot be read is omitted.
        """
        engines = dict(state.engines)
        for path in paths:
            one = self.engine(path)
            config, roles = partial(in_time, one.config), partial(in_time, one.all_roles)
            found = _engine(state.mounts[path], config, roles)
            if isinstance(found, LiveEngine):
                engines[path] = found
        further, state = engines.keys() - state.engines.keys(), replace(state, engines=engines)
        for path in paths:
            if path in further:
                with suppress(ForbiddenError):
                    state = self.with_history(state, [path])
        return state

    def with_history(self, state: LiveState, paths: Sequence[str]) -> LiveState:
        """Return the state with the credential history of these mounts, one request each.

        The history stays None if the engine has none.
        """
        engines = dict(state.engines)
        for path in paths:
            if path in engines:
                engine, past = engines[path], self.engine(path).history()
                options = state.mounts[path].options
                engines[path] = replace(
                    engine,
                    history=None if past is None else {n: one.key_id for n, one in past.items()},
                    revoked=revocations.revoked_keys(engine.config, past, options),
                    kept=frozenset(n for n, one in (past or {}).items() if one.kept),
                )
        return replace(state, engines=engines)


def _engine(
    mount: LiveMount, get_config: Callable[[], LiveConfig], get_roles: Callable[[], _Roles]
) -> LiveEngine | Problem:
    """Return the engine of one mount, or why it cannot be read."""
    try:
        found, (usable, unusable) = get_config(), get_roles()
        found = revocations.with_mark(found, mount.options)
        known = revocations.revoked_keys(found, None, mount.options)
        return LiveEngine(found, usable, unusable=unusable, revoked=known)
    except OutcomeUnknownError as error:
        return error.problems[0]  # its process hangs, although the server has answered
    except _WHOLE_SERVER:
        raise
    except VaultError as error:
        return error.problems[0]


def in_time(read: Callable[[], _T]) -> _T:
    """Read a part of a mount, whose process may hang, within :data:`MOUNT_SECONDS`.

    Waits that concern the whole server, such as an election, are not limited by this.

    Raises:
        OutcomeUnknownError: there was no answer in that time.
        VaultError: any other failure.
    """
    try:
        with within(MOUNT_SECONDS):
            return read()
    except OutcomeUnknownError:
        raise
    except _WHOLE_SERVER:
        return read()


GatewayForNode = Callable[[ClusterNode], Gateway | None]
"""Opens a gateway to a single node; None if the user did not name that node's address."""
