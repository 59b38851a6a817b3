"""``init``: writes a starter manifest, whose text is below, and keeps credentials out of git."""

import os
import tempfile
import textwrap
from pathlib import Path

from skyflowctl.credentials.exposure import work_tree
from skyflowctl.errors import RefusedError, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.least_policies import least_policies
from skyflowctl.version import semver

_IGNORED = "credentials/"
_SAME = {"credentials", "/credentials", "credentials/", "/credentials/"}
# In a wheel beside the code; in an editable install below the repository's docs.
_TEXT = """\
# yaml-language-server: $schema=./mounts.schema.json
#
# The Skyflow mounts of one platform. This file contains no secret: it only references
# the credentials.
#
#   skyflowctl schema > mounts.schema.json    completion and checks in your editor
#   skyflowctl validate                       is it correct?
#   skyflowctl apply --dry-run                would it work? (no server needed)
#   skyflowctl plan                           what would change on the server?
#   skyflowctl apply                          change it

version: 1                # the version of this format
manifest: my-platform     # the id of this file, recorded on what it creates; never change it

plugin:
  name: skyflow           # the mount type, as registered with: skyflowctl plugin register
  version: {version}

defaults:
  path_prefix: skyflow    # the mount "order" lives at skyflow/order
  tags: [env:dev]         # added to every mount's own tags
  rotation:
    max_age: 90d          # an older credential is due for rotation
    renew_before: 14d     # and so is a credential that expires within two weeks

mounts:
  order:                  # one product line: one mount, one credential
    description: Order orchestration
    tags: [product:order]
    # protect: true       # never disabled or pruned
    credentials:
      file: credentials/order.json     # relative to this file; or env: NAME,
                                       # or keyring: {{service: S, username: U}}
    roles:

      # An application reads its token with:
      #   bao read skyflow/order/creds/order-producer ctx=order:ORD-42
      order-producer:
        role_ids: [skyflow-role-order-prod]    # exactly one Skyflow role id
        description: Order service writer
        ctx:
          required: true       # no token without a ctx
          pattern: "order:*"   # of this form;
          probe: "order:probe" # health checks use this one

# moved:                  # a mount or role that has another path now; see apply --allow-move
#   - {{from: skyflow/orders, to: skyflow/order}}
"""


@dataclass(frozen=True, slots=True)
class Started:
    """The result of ``init``.

    Args:
        manifest: the file that was written.
        replaced: the file existed and ``force`` was given.
        ignore_file: the ``.gitignore`` to which ``credentials/`` was added; None: there is no git
            work tree, or the line was there.
    """

    manifest: Path
    replaced: bool
    ignore_file: Path | None

    def done(self) -> tuple[str, ...]:
        """Return one line for each step that was done."""
        lines = [f"{'replaced' if self.replaced else 'wrote'} {self.manifest}"]
        if self.ignore_file:
            lines.append(f"added {_IGNORED} to {self.ignore_file}")
        return tuple(lines)


def init(path: str = "mounts.yaml", *, force: bool = False, operators: bool = False) -> Started:
    """Write a starter manifest.

    Args:
        path: the file to write; its folder must exist.
        force: replace an existing file.
        operators: add the least policies of the people who work with the mounts.

    Raises:
        RefusedError: the file exists and ``force`` is not given. Nothing was written.
        UsageError: it cannot be written there, or is not the name of a file.
    """
    _check_name(path)
    manifest = Path(path)
    was_there = os.path.lexists(manifest)
    if was_there and not force:
        raise RefusedError(
            f"{manifest} is there already",
            why="init never overwrites what you wrote",
            fix="name another file with -f, or replace it with --force",
            code="file-exists",
        )
    try:
        text = starter_text(semver()) + (policies_text() if operators else "")
        _write(manifest, text, replace=was_there)
        return Started(manifest, was_there, _ignore_credentials(manifest.absolute().parent))
    except OSError as error:
        raise UsageError.of_file(
            f"cannot write {error.filename or manifest}",
            error,
            fix="check the folder and its permissions",
            code="not-writable",
        ) from None


def _check_name(path: str) -> None:
    if path == "-":
        why = "- means standard input, but init writes a file"
    elif not path or path.endswith("/") or Path(path).is_dir():
        why = "it is empty, or names a folder"
    elif not path.isprintable():
        why = "it holds a character that does not print"
    else:
        return
    raise UsageError(
        "-f is not a file name",
        why=why,
        fix="for example -f mounts.yaml, or leave it out",
        code="bad-file-name",
    )


def _write(path: Path, text: str, *, replace: bool) -> None:
    if not replace:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        return
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as written:
        written.write(text)
    temporary = Path(written.name)
    temporary.chmod(0o644)
    temporary.replace(path)


def _ignore_credentials(folder: Path) -> Path | None:
    if work_tree(folder) is None:
        return None
    ignore_file = folder / ".gitignore"
    text = ignore_file.read_text(encoding="utf-8") if ignore_file.exists() else ""
    if _SAME & {line.strip() for line in text.splitlines()}:
        return None
    gap = "" if not text or text.endswith("\n") else "\n"
    with ignore_file.open("a", encoding="utf-8") as file:
        file.write(f"{gap}{_IGNORED}\n")
    return ignore_file


def starter_text(plugin_version: str) -> str:
    """Return the manifest for a plugin of this version (such as ``v1.0.0``)."""
    return _TEXT.format(version=plugin_version)


def policies_text() -> str:
    """Return a manifest's ``policies``: the least ones, word for word."""
    lines = [
        "",
        "# Policies for the people and programs that work with the mounts. Only an administrator",
        "# applies them. Attach each to a login, for example with auth or groups.",
        "policies:",
    ]
    for name, text in least_policies().items():
        lines += [f"  {name}:", "    text: |", textwrap.indent(text, " " * 6).rstrip("\n"), ""]
    return "\n".join(lines).rstrip("\n") + "\n"
