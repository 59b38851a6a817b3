"""In which words a cut-off tells what it did not reach."""

from collections.abc import Iterable

from skyflowctl.errors import Problem, SkyflowctlError
from skyflowctl.rotation.revoked import AtSkyflow, NodeCut, OtherMount, RevokedKey
from skyflowctl.vault.live import EngineApi, LiveRevocation, way_out

NOT_IN_TIME = "it did not answer before the cut-off, which waits for nobody"
BEARERS = "bearer tokens that were minted before: Skyflow cannot revoke one"
WRAPPED = (
    "tokens that lie wrapped in the server: each can be unwrapped until its wrapping ends, "
    "and is a bearer token like the others"
)
UNKNOWN_KEY = (
    "the key that was live, which neither the engine nor a token named: it is valid at Skyflow "
    "until somebody deletes it there"
)
SNAPSHOTS = (
    "snapshots of the server that hold the credential: restored, it is live again as long as "
    "its key is valid at Skyflow"
)


def unasked(node: str, said: Iterable[Problem]) -> str:
    """Return why a node was not asked, in the words of what was said when it was looked for."""
    about = (one.summary for one in said if node in f"{one.summary} {one.why}")
    return next(about, "nobody named this node's address, so it was not asked")


def minting_node(node: str) -> str:
    """Return what an unproved node may still do."""
    return f"tokens that {node} may mint: it is not proved that it is cut off"


def key_left(key: RevokedKey) -> str:
    """Return what a key does that is not known to be deleted."""
    known = "Skyflow lists it" if key.at_skyflow is AtSkyflow.LEFT else "perhaps valid at Skyflow"
    why = f" ({key.detail})" if key.detail else ""
    return f"the key {key.key_id} of {key.client_id}, {known}{why}: a copy of it mints"


def look_failed(error: BaseException | None) -> Problem:
    """Return the warning where something could not be seen."""
    text = error.problems[0].summary if isinstance(error, SkyflowctlError) else ""
    return Problem(
        "look-failed",
        "a part of what there was could not be read; the cut-off did not wait for it",
        text or f"{type(error).__name__} in skyflowctl itself",
        "'skyflowctl config history MOUNT' and 'skyflowctl health' tell it later",
    )


def not_read_back(name: str, error: SkyflowctlError) -> Problem:
    """Return the problem where the leader could not be asked after the cut-off."""
    return Problem(
        "not-read-back",
        f"whether {name} stays cut off could not be read back",
        error.problems[0].summary,
        "run the same command again: what is destroyed stays destroyed, and all is proved anew",
    )


def reason_not_kept(name: str) -> Problem:
    """Return the warning where an earlier release of the engine keeps no reason."""
    return Problem(
        "reason-not-kept",
        f"{name} is cut off, and its engine keeps neither the reason nor the run",
        "an earlier release of the engine runs there; it does not refuse a revoked key either",
        "put this page into the incident file, and upgrade the engine: 'skyflowctl plugin list'",
    )


def key_not_known(name: str) -> Problem:
    """Return the warning where the key that was live is named nowhere, so nothing refuses it."""
    return Problem(
        "revoked-key-unknown",
        f"{name} is cut off, and which key was live is not known",
        "its engine did not tell, or read it from a file on the server; without a key id that "
        "key is not refused when somebody writes it again",
        "delete it in Skyflow Studio, and the file that held it",
    )


def cut_off_before(name: str, first: LiveRevocation, given: str, api: EngineApi) -> Problem:
    """Return the warning where an earlier run cut the mount off; its words stay.

    Args:
        name: of the mount.
        first: what is kept of the first cut-off.
        given: the reason of this run, where it is another one; empty: it is not.
        api: what the engine can do.
    """
    dropped = "; the reason that was given now is not stored" if given else ""
    return Problem(
        "cut-off-before",
        f"{name} was cut off already: it is {first.sentence()}",
        f"the first reason, run and time stay; this run only proved the cut-off again{dropped}",
        way_out(name, api),
    )


def not_marked(name: str, error: SkyflowctlError) -> Problem:
    """Return the problem where nothing keeps the next apply from ending the cut-off."""
    return Problem(
        "not-marked",
        f"{name} is cut off, and its mount could not be marked so",
        f"its engine keeps no reason, and: {error.problems[0].summary}",
        "run the same command again with a login that may tune the mount; until then an apply "
        "would write the manifest's credential",
    )


def written_again(name: str) -> Problem:
    """Return the problem where a writer does not let go."""
    return Problem(
        "written-again",
        f"{name} has a credential again: somebody writes it each time it is destroyed",
        "another login, or another run, configures this mount at the same time",
        "stop that writer (the audit log names it), then run the same command again",
    )


def not_proved(name: str, node: NodeCut) -> Problem:
    """Return the problem of a node that is not proved to be cut off."""
    alive = [role.role for role in node.roles if not role.ok]
    why = node.problem or f"creds did not fail as they should for {', '.join(alive)}"
    return Problem(
        "not-proved",
        f"it is not proved that {node.node} gives no token of {name}",
        why,
        "name every node (--node URL or SKYFLOWCTL_NODES), bring it up or shut it down, then run "
        "the same command again",
    )


def broken(other: OtherMount) -> Problem:
    """Return the problem of another mount that served before."""
    node = f" on {other.node}" if other.node else ""
    return Problem(
        "other-mount-broken",
        f"{other.path} served before the cut-off and does not now",
        f"its health{node} is {other.after}",
        f"see 'skyflowctl health {other.path} --refresh'; a cut-off touches no other mount, but "
        "a key that was deleted at Skyflow may have been used there too",
    )


def other_not_proved(other: OtherMount) -> Problem:
    """Return the problem of another mount of which only the state after is known, and is bad."""
    return Problem(
        "other-mount-not-proved",
        f"{other.path} does not serve, and whether it did before the cut-off is not known",
        f"its health is {other.after}, and it had not answered when the mount was cut off",
        f"see 'skyflowctl health {other.path} --refresh'",
    )


def roles_unknown(name: str, error: SkyflowctlError) -> Problem:
    """Return the problem where the roles could not be listed."""
    return Problem(
        "roles-unknown",
        f"the roles of {name} could not be listed, so none was asked for a token",
        error.problems[0].summary,
        "run the same command again with a login that may list them",
    )


def others_unknown(name: str, error: SkyflowctlError) -> Problem:
    """Return the problem where the other mounts could not be listed."""
    return Problem(
        "others-unknown",
        f"whether the mounts beside {name} serve is not known",
        error.problems[0].summary,
        "grant read on sys/mounts, or ask them with 'skyflowctl health'",
    )


def of_keys(keys: Iterable[RevokedKey], name: str, *, delete_keys: bool) -> list[Problem]:
    """Return a problem for each key that was to be deleted at Skyflow and is not."""
    if not delete_keys:
        return []
    left = (key for key in keys if key.at_skyflow in (AtSkyflow.LEFT, AtSkyflow.UNKNOWN))
    return [
        Problem(
            "key-left",
            f"the key {key.key_id} of {key.client_id} is not deleted at Skyflow",
            key.detail or "Skyflow still lists it",
            f"settle that, then run the same command for {name} again, or delete it in Skyflow "
            "Studio",
        )
        for key in left
    ]
