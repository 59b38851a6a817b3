"""The outcome of a cut-off, as frozen values: all that the incident file needs."""

from enum import StrEnum

from skyflowctl.errors import ExitCode, Problem
from skyflowctl.frozen import dataclass
from skyflowctl.rotation.model import Step
from skyflowctl.vault.live import LiveRevocation


class AtSkyflow(StrEnum):
    """What is known of a key at Skyflow, where the engine's cut-off has no effect."""

    DELETED = "deleted"
    """This run deleted it."""
    ABSENT = "absent"
    """Skyflow does not list it."""
    LEFT = "left"
    """Skyflow lists it: each copy of it can mint."""
    UNKNOWN = "unknown"
    """Skyflow was not asked or did not answer; treat the key as valid."""


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """One key that this mount has held.

    Args:
        client_id: its service account.
        key_id: the key.
        versions: the credential versions that held it; empty: it was created at Skyflow for this
            mount and never written.
        was: ``live``, ``kept``, ``earlier`` (destroyed before) or ``unwritten``.
        at_skyflow: what is known of it there.
        detail: why it was left or is unknown.
    """

    client_id: str
    key_id: str
    versions: tuple[int, ...]
    was: str
    at_skyflow: AtSkyflow = AtSkyflow.UNKNOWN
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RoleCut:
    """Whether one role's creds fail on one node because no credential is there."""

    role: str
    ok: bool
    answer: str


@dataclass(frozen=True, slots=True)
class NodeCut:
    """One node's proof. ``problem`` says why a node is not verified; empty if it is."""

    node: str
    roles: tuple[RoleCut, ...] = ()
    problem: str = ""

    @property
    def proved(self) -> bool:
        """True when every role's creds fail there."""
        return not self.problem and all(role.ok for role in self.roles)


@dataclass(frozen=True, slots=True)
class OtherMount:
    """Another mount of the server, by its worst health over the nodes that were asked.

    Args:
        path: of the mount.
        before: its state before the cut-off; empty: not known.
        after: its state after it; empty: not known.
        node: the node that reported ``after``; empty: the address that was named.
    """

    path: str
    before: str
    after: str
    node: str = ""

    @property
    def broken(self) -> bool:
        """True when it served before the cut-off and does not now."""
        return self.before == "ok" and self.after != "ok"


@dataclass(frozen=True, slots=True)
class Remains:
    """Something that a cut-off cannot revoke, and until when (RFC 3339; empty: no end known)."""

    what: str
    until: str


@dataclass(frozen=True, slots=True)
class RevokeOutcome:
    """The outcome of a cut-off.

    Args:
        name: of the mount, as the person said it.
        path: of the mount.
        reason: the given reason; for a repeated cut-off that of the first one.
        run_id: of the run that cut it off; found in the server's audit log with every request
            of that run, where the header X-Skyflowctl-Run is audited.
        cut_off: the mount has no credential, as its leader reports at the end.
        done_before: it had none when this run began.
        live_key_id: the key that was live before; empty: none was.
        cut_off_at: RFC 3339; when the mount lost its credential, in this run or before it.
        keys: every key that the mount has held, the newest first.
        nodes: the proof of each node, including nodes that could not be asked.
        others: the server's other mounts of this kind.
        cannot_revoke: what stays valid, and until when.
        steps: what was done, in order.
        problems: why the exit code is not 0; the first one is the cause.
        warnings: findings that do not change the exit code.
        exit_code: 0: verified everywhere; 3: the same command again verifies the rest;
            6: another mount that served before does not now.
    """

    name: str
    path: str
    reason: str
    run_id: str
    cut_off: bool
    done_before: bool
    live_key_id: str
    cut_off_at: str
    keys: tuple[RevokedKey, ...]
    nodes: tuple[NodeCut, ...]
    others: tuple[OtherMount, ...]
    cannot_revoke: tuple[Remains, ...]
    steps: tuple[Step, ...]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    exit_code: ExitCode = ExitCode.OK


@dataclass(frozen=True, slots=True)
class CutOffState:
    """What deleting a mount's config has done so far.

    Args:
        at: RFC 3339, when it was deleted last.
        done: the mount had no credential afterwards.
        kept: the engine's record of the cut-off, perhaps of an earlier run; None: none.
        tokens_until: RFC 3339, when the last token minted before it ends, as the engine reports;
            empty: unknown.
    """

    at: str
    done: bool
    kept: LiveRevocation | None = None
    tokens_until: str = ""
