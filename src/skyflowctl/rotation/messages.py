"""The messages of a rotation, each in the three lines of a problem."""

from collections.abc import Iterable, Mapping, Sequence

from skyflowctl.errors import Problem, RefusedError, SkyflowctlError
from skyflowctl.rotation.node_checks import NodeFinding
from skyflowctl.rotation.node_poller import PollResult
from skyflowctl.rotation.ports import names
from skyflowctl.vault.errors import (
    ForbiddenError,
    TokenServiceFailedError,
    TokenUriRefusedError,
)
from skyflowctl.vault.live import (
    LiveRevocation,
    LiveRotation,
)
from skyflowctl.vault.nodes import LISTING_RULE
from skyflowctl.vault.responses import ClusterNode, RoleResult

UNCHANGED = "unchanged-credential"

NO_SOURCE = "no-new-credential"
EARLIER = "earlier-credential"
OTHER_ACCOUNT = "different-account"
_UNVERIFIED = "--allow-unverified-nodes"
_EVERY_NODE = "a credential is verified on every node, and only hosts that you named see the token"


def three_ways(path: str) -> str:
    """Return the ways to name a new credential."""
    return (
        "make the reference lead to a new key, "
        f"or name one with 'skyflowctl rotate {path} --credentials REF', "
        f"or have one made with 'skyflowctl rotate {path} --generate'"
    )


def live_again(name: str, version: int) -> str:
    """Return the command that makes a kept version live again."""
    return f"'skyflowctl rotate --rollback {name} --to {version}' makes this key live again"


def no_source(path: str) -> RefusedError:
    """No source is given for the new credential."""
    return RefusedError(
        f"nothing to rotate to: {path}",
        why="no new credential was named, and the manifest names none for this mount",
        fix=three_ways(path),
        code=NO_SOURCE,
    )


def other_account(path: str, live: str, new: str) -> RefusedError:
    """The reference holds a credential of another service account."""
    return RefusedError(
        f"the new credential is of another service account: {path}",
        why=f"service account {live} is live, the new credential is of {new}",
        fix="name a key of the same account, or allow it with --allow-different-account",
        code=OTHER_ACCOUNT,
    )


def nothing_live(path: str, name: str, revoked: LiveRevocation | None) -> RefusedError:
    """No account is known for which a key could be created."""
    cut_off = f": it was {revoked.sentence()}" if revoked else ""
    return RefusedError(
        f"no key can be made for {path}",
        why=f"the mount has no credential, so its service account is not known{cut_off}",
        fix=f"write a new credential with 'skyflowctl config write {name} --credentials REF'",
        code="nothing-live",
    )


def at_work(path: str, rotation: LiveRotation) -> RefusedError:
    """Another run is rotating this mount."""
    who = f"{rotation.id}, begun by {rotation.by} at {rotation.started},"
    return RefusedError(
        f"another rotation is at work: {path}",
        why=f"rotation {who} has the mount; this run has made no credential live",
        fix="wait until it has ended, then run the same command again",
        code="another-rotation",
    )


def config_changed_meanwhile(path: str, who: str) -> RefusedError:
    """Another writer changed the config between this run's read and its write."""
    return RefusedError(
        f"the config was changed meanwhile: {path}",
        why=f"{who}; this run has made no credential live",
        fix="run the same command again: it reads the state again",
        code="config-changed",
    )


def not_taken(path: str, error: SkyflowctlError) -> RefusedError:
    """The engine tried the new credential; it was refused, or there was no answer."""
    first = error.problems[0]
    what = "the engine did not accept the new credential"
    fix = "fix the cause, then run the same command again"
    if isinstance(error, TokenServiceFailedError):
        what, fix = tried(error, "the new credential")
    return RefusedError(
        f"{what}: {path}",
        why=first.why or first.summary,
        fix=f"{fix}; the old credential is still live",
        code="candidate-refused",
    )


def tried(error: TokenServiceFailedError, what: str) -> tuple[str, str]:
    """Return the result of the engine's try of a credential, and the fix."""
    if isinstance(error, TokenUriRefusedError):
        return f"the engine may not ask the token service of {what}", error.problems[0].fix
    if error.refused:
        return (
            f"the token service refused {what}",
            "check the key and its account's roles in Skyflow",
        )
    return (
        f"{what} was not tried, because the token service did not answer",
        "run the same command again once it answers",
    )


def role_lost(path: str, role: str, proof: RoleResult) -> RefusedError:
    """The new credential cannot mint a role that the live one can."""
    return RefusedError(
        f"the new credential does not mint for {role_or_exchange(role)}: {path}",
        why=f"the live one does; the token service said {_said(proof)}",
        fix="give its service account the same Skyflow roles; the old credential is still live",
        code="role-lost",
    )


def mints_nothing(path: str, role: str, proof: RoleResult) -> RefusedError:
    """The new credential mints for no role."""
    return RefusedError(
        f"the new credential mints for no role: {path}",
        why=f"for {role_or_exchange(role)} the token service said {_said(proof)}",
        fix="check the key and its account's roles in Skyflow; what was live is untouched",
        code="candidate-mints-nothing",
    )


def unverified_credential(path: str, role: str, proof: RoleResult) -> RefusedError:
    """It is unknown whether the new credential mints."""
    return RefusedError(
        f"the new credential could not be tried for {role_or_exchange(role)}: {path}",
        why=f"the token service said {_said(proof)}",
        fix=f"wait until it answers, see 'skyflowctl health {path} --refresh', then run the same "
        "command again",
        code="token-service-no-answer",
    )


def neither(path: str, role: str, proof: RoleResult) -> Problem:
    """A role that neither credential can mint."""
    return Problem(
        "role-mints-with-neither",
        f"{path}: {role_or_exchange(role)} mints neither with the old nor with the new credential",
        f"with the new one the token service said {_said(proof)}",
        "assign the role to the service account in Skyflow, or delete it here",
    )


def problems_of(path: str, error: Exception) -> tuple[Problem, ...]:
    """Return an error's problems; for an internal fault only its type."""
    if isinstance(error, SkyflowctlError):
        return error.problems
    return (internal_fault(path, error),)


def internal_fault(path: str, error: Exception) -> Problem:
    """An internal fault; its text may hold a secret, so only its type is shown."""
    return Problem(
        "unexpected",
        f"the work on the mount ended by a fault of skyflowctl: {path}",
        f"{type(error).__name__} was raised where nothing should be",
        f"'skyflowctl health {path}' says whether it serves; then run the same command again",
    )


def created_key_left(path: str, client_id: str, key_id: str, reason: str) -> Problem:
    """A key that was created for a rotation and is not in use."""
    return Problem(
        "key-left-at-skyflow",
        f"key {key_id} of service account {client_id} is left at Skyflow: {path}",
        reason,
        "run the command again with an operator token, or delete the key in Skyflow Studio",
    )


def unrecorded(path: str, client_id: str, key_ids: Iterable[str]) -> Problem:
    """Keys that appeared at Skyflow and that no record explains."""
    return Problem(
        "unrecorded-keys",
        f"service account {client_id} has keys that no rotation recorded: {', '.join(key_ids)}",
        f"a rotation of {path} began before they were created; it may have made one of them, "
        "or another client did",
        "find out who owns them, then delete the unused ones in Skyflow Studio",
    )


def rotation_unfinished(path: str, reason: str, live: str) -> Problem:
    """A rotation that can be neither finished nor undone now."""
    return Problem(
        "rotation-left-open",
        f"the rotation is left open: {path}",
        f"{reason}; the live credential is {live}. Until there is an answer, neither the new "
        "key nor the previous one can be verified",
        "once there is an answer, run the same command again: it finishes the rotation or rolls "
        "it back",
    )


def role_or_exchange(name: str) -> str:
    """Return what was minted for: a role, or a mount without roles."""
    return f"role {name}" if name else "an exchange without a role"


def _said(proof: RoleResult) -> str:
    if not proof.status:
        return f"nothing ({proof.message})" if proof.message else "nothing"
    return f"{proof.status}: {proof.message}" if proof.message else str(proof.status)


def mounts_not_read(what: str, unread: Mapping[str, str]) -> Problem:
    """Mounts that this login cannot read; the key may be live on one of them."""
    places = ", ".join(path for path in unread if path) or "the server's other mounts"
    return Problem(
        "mounts-not-read",
        f"whether {what} is live elsewhere is not known of {places}",
        "; ".join(dict.fromkeys(unread.values())),
        "grant read on sys/mounts and on the mounts' config, or look there yourself",
    )


def role_left(path: str, said: str) -> Problem:
    """The rollback was made although this role does not mint with it; quotes the engine."""
    return Problem(
        "role-left-behind",
        f"a role gets no token from the credential that is live again: {path}",
        said,
        "assign the role at Skyflow to the service account that is live, or rotate forward",
    )


def unnamed(nodes: Sequence[ClusterNode]) -> Problem:
    """Nodes that the cluster lists and the user never named."""
    listed = ", ".join(names(nodes))
    return Problem(
        "unnamed-nodes",
        f"nodes of the cluster that were never named: {listed}",
        why=_EVERY_NODE,
        fix=f"name them with --node URL or in SKYFLOWCTL_NODES, or go on with {_UNVERIFIED}",
    )


def one_address(nodes: Sequence[ClusterNode]) -> Problem:
    """Several nodes that the cluster lists with the address of, say, a load balancer."""
    places = ", ".join(dict.fromkeys(names(nodes)))
    return Problem(
        "nodes-not-apart",
        f"{len(nodes)} nodes of the cluster cannot be asked one by one: {places}",
        why="they share one api_addr, so it is not known which of them answers there",
        fix=f"set api_addr to each server's own address, or go on with {_UNVERIFIED}",
    )


def one_process(listed: Sequence[str]) -> Problem:
    """Addresses of nodes at which a node answers that already has another address."""
    return Problem(
        "nodes-not-apart",
        f"nodes of the cluster that cannot be asked themselves: {', '.join(listed)}",
        why="another node of the list answers there, by its own id",
        fix=f"set api_addr to each server's own address, or go on with {_UNVERIFIED}",
    )


def unidentified_nodes(nodes: Sequence[str]) -> Problem:
    """Nodes that report no identity."""
    return Problem(
        "nodes-nameless",
        f"nodes that do not say which they are: {', '.join(nodes)}",
        why="each is asked at its own address, and nothing shows two addresses of one server",
        fix="set enable_response_header_raft_node_id = true in each server's configuration",
    )


def unlisted(error: ForbiddenError) -> Problem:
    """This login may not read the list of nodes."""
    return Problem(
        "nodes-unknown",
        "it cannot be seen which nodes the cluster has",
        why=f"sys/ha-status: {error.problems[0].why}",
        fix=f"add to this login's policy: {LISTING_RULE}, or go on with {_UNVERIFIED}",
    )


def unheard(result: PollResult) -> Problem:
    """A node that does not answer before anything is written."""
    return Problem(
        "node-unheard",
        f"{result.client.name} cannot be asked",
        why=result.finding.why,
        fix=f"{result.finding.fix}, then run the same command again; or go on without it with "
        f"{_UNVERIFIED}",
    )


def other_cluster(name: str) -> Problem:
    """A named address that belongs to another cluster."""
    return Problem(
        "node-of-another-cluster",
        f"{name} was named, and is a node of another cluster",
        why="its cluster id is another one",
        fix="take it out of --node and SKYFLOWCTL_NODES",
    )


def left_out(result: PollResult) -> Problem:
    """A node that has left the cluster: it cannot mint, and was not verified."""
    return Problem(
        "node-left-out",
        f"{result.client.name} was left out",
        why=f"it cannot be asked ({result.finding.why}), and the cluster does not list it now",
        fix="none if the node is down; otherwise make it reachable from here and run this again",
    )


def disagrees(name: str, finding: NodeFinding, path: str, key_id: str) -> Problem:
    """A node that does not show the expected credential."""
    return Problem(
        "node-disagrees",
        f"{name} does not prove that it mints with key {key_id}: {path}",
        why=finding.why,
        fix=finding.fix,
    )


def joined(nodes: Sequence[ClusterNode], path: str) -> Problem:
    """Nodes that joined the cluster during the run and were not named."""
    return Problem(
        "node-disagrees",
        f"nodes joined the cluster meanwhile and cannot be asked: {', '.join(names(nodes))}",
        why=f"their addresses were not given, so nothing is known of {path} there",
        fix=f"name them with --node URL or in SKYFLOWCTL_NODES, or go on with {_UNVERIFIED}",
    )
