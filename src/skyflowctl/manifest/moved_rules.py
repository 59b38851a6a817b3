"""The rules of ``moved``: each entry leads, in one step, from a former path to a declared one."""

from collections.abc import Collection, Iterator, Sequence
from typing import Literal, NamedTuple

from skyflowctl.engine.names import NAME_RULE, is_name
from skyflowctl.errors import Problem, Where
from skyflowctl.manifest.messages import did_you_mean, shown
from skyflowctl.manifest.nodes import Path, YamlNode, at_value, child, entries, text_of
from skyflowctl.manifest.paths import RESERVED, mount_path, parents


class _Side(NamedTuple):
    """One side of a move.

    Args:
        kind: what it names.
        text: as written.
        path: the path on the server.
        about: its path in the manifest.
        where: its position.
    """

    kind: Literal["mount", "role"]
    text: str
    path: str
    about: Path
    where: Where


class MoveEntry(NamedTuple):
    """One entry of ``moved``."""

    old: _Side
    new: _Side


_Found = Iterator[tuple[Path, Problem]]


def read_moves(root: YamlNode) -> tuple[MoveEntry, ...]:
    """Return the entries of ``moved``, without those that the schema refuses."""
    listed = child(root, "moved")
    nodes = listed.value if listed is not None and isinstance(listed.value, list) else []
    found = []
    for index, node in enumerate(nodes):
        old, new = (_side(root, node, index, key) for key in ("from", "to"))
        if old and new:
            found.append(MoveEntry(old, new))
    return tuple(found)


def _side(root: YamlNode, entry: YamlNode, index: int, key: str) -> _Side | None:
    node, about = child(entry, key), ("moved", index, key)
    text = text_of(node)
    if node is None or not text:
        return None
    mount, slash, role = text.rpartition("/roles/")
    if not slash or "/" in role:
        return _Side("mount", text, text, about, at_value(node, about))
    path = mount if "/" in mount else mount_path(root, mount)
    return _Side("role", text, f"{path}/roles/{role}", about, at_value(node, about))


def moved_rules(root: YamlNode) -> _Found:
    """Yield a problem for each entry that no apply could carry out."""
    moves, declared = read_moves(root), set(_declared(root))
    for number, move in enumerate(moves):
        wrong = (*_kinds(move), *_forms(move), *_places(move), *_with_others(move, moves, number))
        yield from wrong or (*_from_declared(move, declared), *_to_undeclared(move, declared))


def _declared(root: YamlNode) -> Iterator[tuple[str, str]]:
    """Yield the kind and path of every mount and role of the manifest."""
    for name, mount in entries(child(root, "mounts")):
        path = mount_path(root, name)
        yield "mount", path
        for role, _ in entries(child(mount, "roles")):
            yield "role", f"{path}/roles/{role}"


def _finding(side: _Side, summary: str, why: str, fix: str) -> tuple[Path, Problem]:
    return side.about, Problem("bad-move", summary, why, fix, side.where)


def _kinds(move: MoveEntry) -> _Found:
    old, new = move
    if old.kind != new.kind:
        summary = f"a {old.kind} cannot become a {new.kind}: {shown(old.text)}, {shown(new.text)}"
        why = "MOUNT/roles/ROLE is a role; every other path is a mount"
        yield _finding(new, summary, why, "name two mounts, or two roles")


def _forms(move: MoveEntry) -> _Found:
    for side in move:
        first, role = side.path.split("/")[0], side.path.rpartition("/")[2]
        if first.lower() in RESERVED:
            summary = f"the path {shown(side.text)} is reserved"
            why = f"{shown(first)}/ is reserved by the server"
            yield _finding(side, summary, why, "name the path of a mount, such as skyflow/NAME")
        elif side.kind == "role" and not is_name(role):
            summary = f"{shown(role)} is not a valid role name"
            yield _finding(side, summary, NAME_RULE, "correct the name, as in order/roles/writer")


def _places(move: MoveEntry) -> _Found:
    old, new = move
    if old.path == new.path:
        summary = f"{shown(old.text)} is moved to itself"
        yield _finding(new, summary, "from and to are the same path", "remove the entry")
    elif old.kind == "mount" and (old.path in parents(new.path) or new.path in parents(old.path)):
        summary = f"{shown(old.text)} cannot be moved to {shown(new.text)}"
        why = "one path is below the other, and the server refuses that"
        yield _finding(
            new, summary, why, "move it to another path, and from there in a second apply"
        )


def _with_others(move: MoveEntry, moves: Sequence[MoveEntry], number: int) -> _Found:
    """Yield why an entry contradicts another one."""
    for other in moves[:number]:
        for key, mine, theirs in (("from", move.old, other.old), ("to", move.new, other.new)):
            if mine.path == theirs.path:
                summary = f"two moves have {key}: {shown(mine.text)}"
                why = f"the other one is in line {theirs.where.line}"
                yield _finding(mine, summary, why, "keep one of the two")
    onward = next((other for other in moves if other.old.path == move.new.path), move)
    if onward is move:
        return
    back = _leads_to(onward, move.old.path, moves)
    line = onward.old.where.line
    why = f"{shown(move.new.text)} is the from of line {line}, and a move is one step"
    if back:
        summary = f"the moves of {shown(move.old.text)} lead back to it"
        fix = "move one of them to a free path first, with an apply of its own"
    else:
        summary = f"{shown(move.old.text)} is moved to a path that is moved on"
        fix = f"write one entry, with to: {shown(onward.new.text)}"
    yield _finding(move.new, summary, why, fix)


def _leads_to(move: MoveEntry, path: str, moves: Sequence[MoveEntry]) -> bool:
    """Return whether the moves after this one end at a path; no two of them begin alike."""
    following = {other.old.path: other.new.path for other in moves}
    here = move.new.path
    for _ in moves:
        if here == path:
            return True
        here = following.get(here, "")
    return False


def _from_declared(move: MoveEntry, declared: Collection[tuple[str, str]]) -> _Found:
    old, new = move
    if (old.kind, old.path) in declared:
        summary = f"{shown(old.text)} is moved, but the manifest still declares it"
        why = f"a {old.kind} that was moved is declared at its new path only"
        fix = f"remove the entry, or declare the {old.kind} as {shown(new.text)} only"
        yield _finding(old, summary, why, fix)


def _to_undeclared(move: MoveEntry, declared: Collection[tuple[str, str]]) -> _Found:
    new = move.new
    if (new.kind, new.path) not in declared:
        summary = f"{shown(new.text)} is no {new.kind} of this manifest"
        why = f"to is where the manifest has the {new.kind} now: {shown(new.path)}"
        near = did_you_mean(new.path, (path for kind, path in declared if kind == new.kind))
        yield _finding(new, summary, why, near or f"declare the {new.kind}, or correct to")
