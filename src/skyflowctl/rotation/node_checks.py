"""Judges one node's answer about a credential that must be live there, or gone."""

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any

from skyflowctl.frozen import dataclass
from skyflowctl.retry import is_transient
from skyflowctl.vault import nodes as vault_nodes
from skyflowctl.vault.errors import (
    BadRequestError,
    BusyError,
    ForbiddenError,
    NotFoundError,
    OutcomeUnknownError,
    RedirectRefusedError,
    SealedError,
    ServerUnreachableError,
    VaultError,
    says_not_configured,
)
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.responses import RoleResult, ServerHealth, VerifyReport

_MEND = "fix what it says"
_BRING_BACK = "bring this node back, or take it out of the cluster"
_OWN_ADDRESS = "name this node's own address with --node; see also --allow-unverified-nodes"
_HOLDS = "it still holds a credential"
_LAGS_BEHIND = "it lags behind the cluster"
_PASSES_ON = "it passes the request on to another node instead of answering itself"
NOT_CONFIGURED = "mount not configured"
_LAGS = 10
"""After this many lagging answers (about 6 s) the index of a node is ignored.

Seen on OpenBao 2.7.2: a restarted standby that served the newest data kept answering 429 to the
newest index for minutes, in a cluster without writes.
"""


class NodeState(Enum):
    """What one answer proves."""

    VERIFIED = "verified"
    UNSURE = "right, but the age of the answer is not known"
    NOT_YET = "not yet; it may follow without help"
    NO = "the node says no"
    GONE = "there is no node at this address, or a sealed one: it cannot mint"


@dataclass(frozen=True, slots=True)
class NodeFinding:
    """The verdict on one answer.

    Args:
        state: what it proves.
        why: what the node said.
        fix: what to do if it does not change.
        unaged: the answer does not say how recent it is.
    """

    state: NodeState
    why: str = ""
    fix: str = _MEND
    unaged: bool = False


@dataclass(slots=True)
class NodeClient:
    """A connection to one node.

    Args:
        name: the node's address, or what the cluster calls it.
        gateway: to that node alone, or to the server as a whole.
        own: it reaches only this node, which must answer itself without forwarding.
        only: the server has no other node, so that no answer is older than the last write.
        identity: the node's identity; None until it has answered once.
        lags: how many times in a row it answered that it lags behind the index.
    """

    name: str
    gateway: Gateway
    own: bool = True
    only: bool = False
    identity: ServerHealth | None = None
    lags: int = 0
    _indexed: bool | None = None

    def index(self, newest: str) -> str:
        """Return how new its next answer must be; empty once it has lagged ``_LAGS`` times."""
        return newest if self.lags < _LAGS else ""

    def known(self) -> ServerHealth:
        """Return the node's identity, which is asked for once.

        Raises:
            VaultError: it does not answer.
        """
        if self.identity is None or self.identity.sealed:
            self.identity = self.gateway.sys.health()
        return self.identity

    def indexed(self) -> bool:
        """Whether the node's answers carry an index; asked once, when it is needed."""
        if self._indexed is None:
            try:
                self._indexed = vault_nodes.tells_index(self.gateway.transport)
            except VaultError:
                return False
        return self._indexed


_SEALED = NodeFinding(NodeState.GONE, "it is sealed", "unseal it")
NodeProbe = Callable[[NodeClient], NodeFinding]
"""One request to one node."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a node must show: that this key is live there, and mints.

    Args:
        path: of the mount.
        key_id: the key.
        roles_may_fail: roles that no credential could mint before.
        index: how new the answer must be; empty: not known.
        version: reads the config's version from the leader; an answer without an index must be at
            least as new.
    """

    path: str
    key_id: str
    roles_may_fail: Collection[str]
    index: str
    version: Callable[[], int]


def identify(client: NodeClient) -> NodeFinding:
    """Ask a node for its identity."""
    try:
        sealed = client.known().sealed
    except VaultError as error:
        return of_error(error)
    return _SEALED if sealed else NodeFinding(NodeState.VERIFIED)


def ask(client: NodeClient, expected: Expectation) -> NodeFinding:
    """Let a node mint for every role, and judge its answer."""
    try:
        identity = client.known() if client.own else None
        if identity and identity.sealed:
            return _SEALED
        answer = vault_nodes.verify_at(
            client.gateway.transport, expected.path, client.index(expected.index), itself=client.own
        )
        certain = answer.reached or client.only
        if not certain and answer.report.version < expected.version():
            return NodeFinding(NodeState.NOT_YET, _LAGS_BEHIND, _BRING_BACK, unaged=True)
    except VaultError as error:
        return _counted(client, error)
    if identity and answer.node_id != identity.node_id:
        return NodeFinding(
            NodeState.NOT_YET, f"{answer.node_id or 'another node'} answered", _OWN_ADDRESS
        )
    if certain:
        client.lags = 0
    return _judged(answer.report, expected, certain=certain)


def _judged(report: VerifyReport, expected: Expectation, *, certain: bool) -> NodeFinding:
    if report.key_id != expected.key_id:
        held = f"its live key is {report.key_id}" if report.key_id else "it names no live key"
        return NodeFinding(NodeState.NOT_YET, held, unaged=not certain)
    failed = {
        name: proof
        for name, proof in report.roles.items()
        if not proof.ok and name not in expected.roles_may_fail
    }
    if failed:
        return _of_roles(failed)
    if not report.roles:
        return NodeFinding(NodeState.NO, "it has minted nothing")
    return NodeFinding(NodeState.VERIFIED if certain else NodeState.UNSURE)


def _of_roles(failed: Mapping[str, RoleResult]) -> NodeFinding:
    """Judge failed roles: a refusal is final, a transient failure is asked again."""
    unwell = all(is_transient(proof.status) for proof in failed.values())
    name, proof = next(iter(failed.items()))
    said = proof.message or "no answer from the token service"
    return NodeFinding(
        NodeState.NOT_YET if unwell else NodeState.NO,
        f"role {name}: {said}" if name else said,
        "check that this node reaches the token service",
    )


def _counted(client: NodeClient, error: VaultError) -> NodeFinding:
    found = of_error(error)
    if found.why == _LAGS_BEHIND:
        client.lags += 1
    return found


def of_error(error: VaultError) -> NodeFinding:
    """Judge an error of a node, or a missing answer."""
    why = error.problems[0].why or error.problems[0].summary
    if isinstance(error, RedirectRefusedError):
        return NodeFinding(NodeState.NOT_YET, _PASSES_ON, _OWN_ADDRESS)
    if isinstance(error, OutcomeUnknownError):
        return NodeFinding(NodeState.NOT_YET, f"it does not answer: {why}", _BRING_BACK)
    if isinstance(error, SealedError) or (
        isinstance(error, ServerUnreachableError) and not error.status
    ):
        return NodeFinding(NodeState.GONE, why, _BRING_BACK)
    if isinstance(error, BusyError) and not error.messages:
        return NodeFinding(NodeState.NOT_YET, _LAGS_BEHIND, _BRING_BACK)
    if isinstance(error, (BusyError, ServerUnreachableError)) or error.status >= 500:
        return NodeFinding(NodeState.NOT_YET, why)
    return NodeFinding(NodeState.NO, why, error.problems[0].fix)


def ask_creds(
    client: NodeClient, path: str, role: str, ctx: str | Mapping[str, Any] | None, index: str
) -> NodeFinding:
    """Read a role's token from a node that must have no credential any more.

    The result is ``NO`` for a login that may not read tokens: that proves nothing.
    """
    asked = client.index(index)
    try:
        vault_nodes.try_creds_at(
            client.gateway.transport, path, role, ctx, asked, itself=client.own
        )
    except VaultError as error:
        return _cut(error, client, asked)
    return NodeFinding(NodeState.NOT_YET, "it still gives tokens", _BRING_BACK)


def ask_cut(client: NodeClient, path: str, index: str) -> NodeFinding:
    """Ask a node to verify its credential, where it must have none any more."""
    asked = client.index(index)
    try:
        vault_nodes.verify_at(client.gateway.transport, path, asked, itself=client.own)
    except VaultError as error:
        if type(error) is NotFoundError:
            return _ask_empty(client, path, asked)
        found = _cut(error, client, asked)
        return _ask_reused(client, path, asked, found) if found.why == NOT_CONFIGURED else found
    return NodeFinding(NodeState.NOT_YET, _HOLDS, _BRING_BACK)


def _ask_reused(client: NodeClient, path: str, asked: str, gone: NodeFinding) -> NodeFinding:
    """Ask a node without a credential how many tokens it could still hand out again."""
    try:
        left = vault_nodes.reused_tokens_at(client.gateway.transport, path, itself=client.own)
    except ForbiddenError:
        # The engine looks at its credential before it looks for a token to reuse.
        return gone
    except VaultError as error:
        return _cut(error, client, asked)
    if not left:
        return gone
    return NodeFinding(NodeState.NOT_YET, f"it still holds {left} reused tokens", _BRING_BACK)


def _ask_empty(client: NodeClient, path: str, asked: str) -> NodeFinding:
    """The same for an engine with the basic API, which cannot verify: reads its config."""
    try:
        if vault_nodes.holds_config_at(client.gateway.transport, path, asked, itself=client.own):
            return NodeFinding(NodeState.NOT_YET, _HOLDS, _BRING_BACK)
    except VaultError as error:
        return _cut(error, client, asked)
    return _is_gone(client, asked)


def _is_gone(client: NodeClient, index: str) -> NodeFinding:
    # An error has no index; a node that knows the header has honoured it.
    aware = bool(index) and (not client.own or client.indexed())
    return NodeFinding(
        NodeState.VERIFIED if aware or client.only else NodeState.UNSURE, NOT_CONFIGURED
    )


def _cut(error: VaultError, client: NodeClient, index: str) -> NodeFinding:
    if isinstance(error, BadRequestError) and says_not_configured(error):
        return _is_gone(client, index)
    if isinstance(error, ForbiddenError):
        return NodeFinding(NodeState.NO, error.problems[0].why, error.problems[0].fix)
    found = _counted(client, error)
    return (
        NodeFinding(NodeState.NOT_YET, found.why, found.fix)
        if found.state is NodeState.NO
        else found
    )
