"""Questions to one node of a cluster alone, and whether that node itself has answered.

``X-Vault-No-Request-Forwarding`` keeps a standby from passing a request on: what it cannot
answer itself it redirects, and a redirect is never followed from here. Measured on OpenBao
2.7.2: a standby answers a POST that stores nothing itself, with this header too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skyflowctl.vault.consistency import INDEX_HEADER, only_if_reached, reaches
from skyflowctl.vault.errors import ForbiddenError, NotFoundError
from skyflowctl.vault.responses import VerifyReport
from skyflowctl.vault.server_state import ServerState, server_state
from skyflowctl.vault.transport import Reply, Request, Transport

_ITSELF = {"X-Vault-No-Request-Forwarding": "true"}
_ID_HEADERS = ("x-vault-raft-node-id", "x-vault-hostname")


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who a node is, by its own words.

    Args:
        node_id: its raft id or host name, where the server is set up to send one.
        cluster_id: of its cluster.
        sealed: a sealed node mints nothing.
    """

    node_id: str
    cluster_id: str
    sealed: bool


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node's own ``config/verify``.

    Args:
        report: what was proved.
        node_id: of the node that answered; empty when the server sends none.
        reached: the answer is as new as the index that was asked for; False: not known.
    """

    report: VerifyReport
    node_id: str
    reached: bool


def identify_node(transport: Transport) -> NodeIdentity:
    """Ask a node who it is; ``sys/health`` is always answered at the spot.

    Raises:
        RedirectRefusedError: it answers no request itself.
        VaultError: it does not answer.
    """
    codes = {"standbycode": "200", "sealedcode": "200", "uninitcode": "200"}
    health = transport.send(Request("GET", "sys/health", params=codes))
    state = server_state(health.status, {"initialized": True, **health.body})
    return NodeIdentity(
        node_id=_node_id(health),
        cluster_id=str(health.body.get("cluster_id") or ""),
        sealed=state in {ServerState.SEALED, ServerState.UNINITIALIZED},
    )


def tells_index(transport: Transport) -> bool:
    """Whether a node tells how new its answers are (OpenBao 2.7).

    A login that may not even look at itself cannot know: no.

    Raises:
        VaultError: it does not answer.
    """
    path = "auth/token/lookup-self"
    try:
        reply = transport.send(Request("GET", path, headers=_ITSELF))
    except ForbiddenError:
        return False
    return INDEX_HEADER.lower() in reply.headers


def verify_at(transport: Transport, path: str, index: str, *, itself: bool = True) -> NodeReport:
    """Have one node mint once for every role with what it holds to be live.

    Args:
        transport: to that node alone.
        path: of the mount.
        index: the answer must be at least as new; empty: as it comes.
        itself: the node may pass the request to no other.

    Raises:
        BusyError: the node is not there yet.
        VaultError: it does not answer, or its engine has nothing to verify.
    """
    headers = _headers(index, itself=itself)
    reply = transport.send(
        Request("POST", f"{path}/config/verify", body={}, headers=headers, idempotent=True)
    )
    return NodeReport(
        report=VerifyReport.parse(reply.data or {}),
        node_id=_node_id(reply),
        reached=reaches(reply.headers.get(INDEX_HEADER.lower(), ""), index),
    )


def holds_config_at(transport: Transport, path: str, index: str, *, itself: bool = True) -> bool:
    """Whether one node has a config of a mount whose engine has the basic API.

    Raises:
        VaultError: it does not answer; see :func:`verify_at`.
    """
    headers = _headers(index, itself=itself)
    try:
        transport.send(Request("GET", f"{path}/config", headers=headers))
    except NotFoundError as error:
        if type(error) is not NotFoundError or not error.empty:
            raise
        return False
    return True


def try_creds_at(
    transport: Transport,
    path: str,
    role: str,
    ctx: str | Mapping[str, Any] | None,
    index: str,
    *,
    itself: bool = True,
) -> None:
    """Read a role's token at one node, and drop it.

    Raises:
        BadRequestError: ``mount not configured``, what is hoped for after a cut-off.
        VaultError: anything else that kept it from giving one.
    """
    where, headers = f"{path}/creds/{role}", _headers(index, itself=itself)
    if ctx is None or isinstance(ctx, str):
        params = None if not ctx else {"ctx": ctx}
        transport.send(Request("GET", where, params=params, headers=headers))
    else:
        transport.send(Request("POST", where, body={"ctx": ctx}, headers=headers, idempotent=True))


def _headers(index: str, *, itself: bool) -> dict[str, str]:
    return {**(_ITSELF if itself else {}), **only_if_reached(index)}


def _node_id(reply: Reply) -> str:
    return next((reply.headers[name] for name in _ID_HEADERS if name in reply.headers), "")
