"""Checks who else can see a secret's file: its mode, and version control."""

import os
import shutil
import stat
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_GIT_SECONDS = 10


def wider_than_owner(path: str) -> str:
    """Return a file's mode, such as ``0644``, if anyone but its owner has permissions.

    Empty if only the owner has, or if the file cannot be inspected.
    """
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError:
        return ""
    return f"{mode:04o}" if mode & _OTHERS else ""


def in_version_control(paths: Iterable[str]) -> frozenset[str]:
    """Return the paths that are in a git work tree and not ignored there.

    This calls git once per work tree. Without git, or if git refuses the tree, the result is
    empty: this is advice, not a gate.
    """
    trees: defaultdict[Path, list[str]] = defaultdict(list)
    for path in paths:
        tree = work_tree(Path(path).parent)
        if tree is not None:
            trees[tree].append(path)
    if not trees or shutil.which("git") is None:
        return frozenset()
    return frozenset(path for tree, inside in trees.items() for path in _seen(tree, inside))


def work_tree(folder: Path) -> Path | None:
    """Return the git work tree that contains a folder, or None."""
    for above in (folder, *folder.parents):
        if (above / ".git").exists():
            return above
    return None


def _seen(tree: Path, paths: list[str]) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    try:
        done = subprocess.run(
            ["git", "-C", str(tree), "check-ignore", "--stdin", "-z"],
            input="\0".join(paths).encode(errors="surrogateescape"),
            capture_output=True,
            env=environment,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode not in (0, 1):  # 0: some are ignored, 1: none is
        return []
    ignored = set(done.stdout.decode(errors="surrogateescape").split("\0"))
    return [path for path in paths if path not in ignored]
