"""Sends requests to a single node of a cluster, and checks that the node itself answered.

``X-Vault-No-Request-Forwarding`` keeps a standby from forwarding a request. It redirects requests
that it cannot answer itself, and this module never follows a redirect. Measured on OpenBao
2.7.2: with this header, too, a standby itself answers a POST that stores nothing.
"""

from collections.abc import Mapping
from typing import Any

from skyflowctl.frozen import dataclass
from skyflowctl.hcl import policy_rule
from skyflowctl.vault.consistency import INDEX_HEADER, only_if_reached, reaches
from skyflowctl.vault.decode import replying_node
from skyflowctl.vault.errors import (
    ForbiddenError,
    NotFoundError,
    OutcomeUnknownError,
    RedirectRefusedError,
    ServerUnreachableError,
    VaultError,
)
from skyflowctl.vault.responses import VerifyReport
from skyflowctl.vault.transport import Request, Transport
from skyflowctl.vault.waits import within

LISTING_RULE = policy_rule("sys/ha-status", ("read",))
"""What a policy has that lets a login list the cluster's nodes."""

_ITSELF = {"X-Vault-No-Request-Forwarding": "true"}
_LEADER_SECONDS = 2.0
_NO_LEADER = "local node not active"


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node's own ``config/verify``.

    Args:
        report: the result.
        node_id: the node that answered; empty if the server sends no id.
        reached: whether the answer is at least as new as the requested index; False if unknown.
    """

    report: VerifyReport
    node_id: str
    reached: bool


def tells_index(transport: Transport) -> bool:
    """Whether a node's answers have a raft index (OpenBao 2.7).

    False for a login that may not look up itself, because it cannot find out.

    Raises:
        VaultError: the node does not answer.
    """
    path = "auth/token/lookup-self"
    try:
        reply = transport.send(Request("GET", path, headers=_ITSELF))
    except ForbiddenError:
        return False
    return INDEX_HEADER.lower() in reply.headers


def reaches_leader(transport: Transport) -> bool | None:
    """Return whether a standby reaches an active node; None if that cannot be found out.

    Without a quorum it may name the leader that was, and a request for the leader is then
    redirected to it instead of forwarded (measured on OpenBao 2.7.2).
    """
    try:
        with within(_LEADER_SECONDS):
            known = transport.send(Request("GET", "sys/leader")).body
            if known.get("ha_enabled") and not known.get("leader_address"):
                return False
            transport.send(Request("GET", "sys/ha-status"))
    except (OutcomeUnknownError, ForbiddenError, NotFoundError):
        return None
    except (RedirectRefusedError, ServerUnreachableError):
        return False
    except VaultError as error:
        return False if error.says(_NO_LEADER) else None
    return True


def answers_itself(transport: Transport) -> bool | None:
    """Return whether a standby answers reads itself; None if that cannot be found out."""
    try:
        transport.send(Request("GET", "sys/internal/ui/mounts", headers=_ITSELF))
    except RedirectRefusedError:
        return False
    except VaultError:
        return None
    return True


def verify_at(transport: Transport, path: str, index: str, *, itself: bool = True) -> NodeReport:
    """Make one node mint once for every role with the credential that is live in its view.

    Args:
        transport: a transport to that node only.
        path: of the mount.
        index: the answer must be at least as new as this; empty for any answer.
        itself: whether the node must not forward the request.

    Raises:
        BusyError: the node has not reached the index yet.
        VaultError: it does not answer, or its engine has nothing to verify.
    """
    headers = _headers(index, itself=itself)
    reply = transport.send(
        Request("POST", f"{path}/config/verify", body={}, headers=headers, idempotent=True)
    )
    return NodeReport(
        report=VerifyReport.parse(reply.data or {}),
        node_id=replying_node(reply.headers),
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


def reused_tokens_at(transport: Transport, path: str, *, itself: bool = True) -> int:
    """Return how many tokens one node could hand out again; 0 for an engine that reuses none.

    Raises:
        VaultError: it does not answer, or this login may not read the mount's health.
    """
    reply = transport.send(Request("GET", f"{path}/health", headers=_headers("", itself=itself)))
    reuse = (reply.data or {}).get("reuse") or {}
    return int(reuse.get("entries") or 0)


def try_creds_at(
    transport: Transport,
    path: str,
    role: str,
    ctx: str | Mapping[str, Any] | None,
    index: str,
    *,
    itself: bool = True,
) -> None:
    """Read a role's token at one node, and discard it.

    Raises:
        BadRequestError: ``mount not configured``, the expected answer after a cut-off.
        VaultError: any other reason why there is no token.
    """
    where, headers = f"{path}/creds/{role}", _headers(index, itself=itself)
    if ctx is None or isinstance(ctx, str):
        params = None if not ctx else {"ctx": ctx}
        transport.send(Request("GET", where, params=params, headers=headers))
    else:
        transport.send(Request("POST", where, body={"ctx": ctx}, headers=headers, idempotent=True))


def _headers(index: str, *, itself: bool) -> dict[str, str]:
    return {**(_ITSELF if itself else {}), **only_if_reached(index)}
