"""The user's contexts: one JSON file, which holds no secret.

JSON, because the parser is loaded anyway: every command without BAO_ADDR reads the file. The user
may edit it, so an error names the line and the column.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from skyflowctl.engine.names import NAME_RULE, is_name
from skyflowctl.errors import InvalidInputError, RefusedError, UsageError, Where, os_reason
from skyflowctl.private_files import (
    locked_private,
    make_private_folder,
    open_private,
    write_private,
)
from skyflowctl.vault.contexts import ContextEntry, Contexts, LoginSettings
from skyflowctl.vault.namespaces import check_namespace
from skyflowctl.vault.target import check_address

CONTEXTS_FORMAT = "skyflowctl-contexts/1"
LOGIN_METHODS = (
    "token",
    "approle",
    "userpass",
    "jwt",
    "oidc",
    "kubernetes",
    "github",
    "gitlab",
)
_MOST_BYTES = 1 << 20
_WRITABLE_BY_OTHERS = 0o022
_PREFIX = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)*")
_TEXTS = tuple(
    one.name for one in fields(ContextEntry) if one.name not in {"name", "nodes", "login"}
)
_LOGIN_TEXTS = tuple(one.name for one in fields(LoginSettings))
_BLANK = re.compile(r"[ \t\r\n]*")


class _WrongValueError(Exception):
    """A value that no context can have; ``keys`` lead to it."""

    def __init__(self, why: str, *keys: str) -> None:
        super().__init__(why)
        self.why = why
        self.keys = keys


class ContextFile:
    """The file of the user's contexts.

    Args:
        path: of the file; it and its folder need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Contexts:
        """Return the contexts; none if there is no file.

        Raises:
            RefusedError: others may write the file, or it is a link or another user's.
            InvalidInputError: its text is not that of contexts; the error has the position.
        """
        try:
            descriptor = open_private(self.path, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return Contexts()
        except OSError as error:
            raise self._unsafe(os_reason(error)) from None
        try:
            return self._read(descriptor)
        finally:
            os.close(descriptor)

    def change(self, change: Callable[[Contexts], Contexts]) -> Contexts:
        """Replace the contexts atomically, locked against other processes; return the new ones.

        Raises:
            RefusedError: the file or its folder is unsafe, or cannot be written.
            InvalidInputError: the text of the file is not that of contexts; it is not changed.
        """
        try:
            make_private_folder(self.path.parent)
            with locked_private(self.path) as descriptor:
                before = self._read(descriptor)
                after = change(before)
                if after != before:
                    write_private(self.path, _encode(after))
                return after
        except OSError as error:
            raise self._unsafe(os_reason(error)) from None

    def _read(self, descriptor: int) -> Contexts:
        if os.fstat(descriptor).st_mode & _WRITABLE_BY_OTHERS:
            raise self._unsafe("others may write it")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            raw = file.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise self._invalid("it is larger than 1 MiB", 1, 1)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            column = error.start - raw.rfind(b"\n", 0, error.start)
            raise self._invalid("it is not UTF-8", line, column) from None
        return self._parsed(text) if text.strip() else Contexts()

    def _parsed(self, text: str) -> Contexts:
        try:
            return _contexts(json.loads(text, object_pairs_hook=_without_repeats))
        except json.JSONDecodeError as error:
            raise self._invalid(error.msg, error.lineno, error.colno) from None
        except RecursionError:
            raise self._invalid("it is nested too deeply", 1, 1) from None
        except _WrongValueError as wrong:
            offset = _offset(text, wrong.keys)
            line = text.count("\n", 0, offset) + 1
            column = offset - text.rfind("\n", 0, offset)
            raise self._invalid(wrong.why, line, column, "/" + "/".join(wrong.keys)) from None

    def _invalid(self, why: str, line: int, column: int, pointer: str = "") -> InvalidInputError:
        return InvalidInputError(
            "the contexts cannot be read",
            why=why,
            fix="correct the file, or remove it and add the contexts again",
            code="contexts-invalid",
            where=Where(str(self.path), line, column, pointer or None),
        )

    def _unsafe(self, why: str) -> RefusedError:
        return RefusedError(
            f"the contexts cannot be used: {self.path}",
            why=f"{why}; who writes this file decides where your tokens go",
            fix="make it a regular file of yours that only you may write: chmod 600",
            code="contexts-unsafe",
        )


def checked_name(name: str) -> str:
    """Return the name of a context.

    Raises:
        UsageError: it is none.
    """
    if not is_name(name):
        raise UsageError(
            "the name of the context is not valid",
            why=NAME_RULE,
            fix="choose a name such as prod or staging-eu",
            code="bad-context-name",
        )
    return name


def checked_prefix(prefix: str) -> str:
    """Return a path prefix without slashes at its ends.

    Raises:
        UsageError: it is none.
    """
    plain = prefix.strip("/")
    if not _PREFIX.fullmatch(plain):
        raise UsageError(
            "the path prefix is not valid",
            why="it has parts of lower-case letters, digits, _ and -, with slashes between them",
            fix="give a prefix such as skyflow or team/skyflow",
            code="bad-path-prefix",
        )
    return plain


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    repeated = next(name for name in names if names.count(name) > 1)
    # Its position is not known here; the name is enough to find it.
    raise _WrongValueError(f"the key {repeated!r} is there twice")


def _contexts(raw: Any) -> Contexts:
    if not isinstance(raw, dict) or raw.get("format") != CONTEXTS_FORMAT:
        raise _WrongValueError(f"it has no format {CONTEXTS_FORMAT!r}")
    _check_keys(raw, {"format", "current", "contexts"})
    listed, current = raw.get("contexts", {}), raw.get("current", "")
    if not isinstance(listed, dict):
        raise _WrongValueError("it is not an object", "contexts")
    entries = {name: _entry(name, value) for name, value in listed.items()}
    if current and current not in entries:
        raise _WrongValueError("there is no such context", "current")
    return Contexts(current, entries)


def _entry(name: str, raw: Any) -> ContextEntry:
    at = ("contexts", name)
    if not is_name(name):
        raise _WrongValueError(NAME_RULE, *at)
    if not isinstance(raw, dict):
        raise _WrongValueError("it is not an object", *at)
    _check_keys(raw, {*_TEXTS, "nodes", "login"}, *at)
    texts: dict[str, Any] = _texts(raw, _TEXTS, *at)
    if not texts.get("address"):
        raise _WrongValueError("it has no address", *at)
    nodes = raw.get("nodes", [])
    if not isinstance(nodes, list) or not all(isinstance(node, str) for node in nodes):
        raise _WrongValueError("it is not a list of addresses", *at, "nodes")
    checks = {"address": check_address, "namespace": check_namespace, "path_prefix": checked_prefix}
    for key, check in checks.items():
        _check(check, texts.get(key, ""), *at, key)
    for node in nodes:
        _check(check_address, node, *at, "nodes")
    login = _login(raw["login"], *at, "login") if raw.get("login") is not None else None
    return ContextEntry(name, nodes=tuple(nodes), login=login, **texts)


def _login(raw: Any, *at: str) -> LoginSettings:
    if not isinstance(raw, dict):
        raise _WrongValueError("it is not an object", *at)
    _check_keys(raw, set(_LOGIN_TEXTS), *at)
    texts = _texts(raw, _LOGIN_TEXTS, *at)
    if texts.get("method") not in LOGIN_METHODS:
        why = f"its method is none of {', '.join(LOGIN_METHODS)}"
        raise _WrongValueError(why, *at, *(["method"] if "method" in raw else []))
    return LoginSettings(**texts)


def _texts(raw: Mapping[str, Any], names: tuple[str, ...], *at: str) -> dict[str, str]:
    """Return the texts of these names that are set."""
    for name in names:
        value = raw.get(name, "")
        if not isinstance(value, str) or not value.isprintable():
            raise _WrongValueError("it is no text of printable characters", *at, name)
    return {name: raw[name] for name in names if raw.get(name)}


def _check_keys(raw: Mapping[str, Any], known: set[str], *at: str) -> None:
    for key in raw:
        if key not in known:
            raise _WrongValueError("a context has no such key", *at, key)


def _check(check: Callable[[str], str], text: str, *at: str) -> None:
    try:
        if text:
            check(text)
    except UsageError as error:
        raise _WrongValueError(error.problems[0].why or error.problems[0].summary, *at) from None


def _offset(text: str, keys: tuple[str, ...]) -> int:
    """Return where the value that these keys lead to begins in a valid JSON text."""
    decoder, at = json.JSONDecoder(), _after_blank(text, 0)
    for wanted in keys:
        key, at = decoder.raw_decode(text, _after_blank(text, at + 1))
        at = _after_blank(text, _after_blank(text, at) + 1)
        while key != wanted:
            _, at = decoder.raw_decode(text, at)
            at = _after_blank(text, _after_blank(text, at) + 1)
            key, at = decoder.raw_decode(text, at)
            at = _after_blank(text, _after_blank(text, at) + 1)
    return at


def _after_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _encode(contexts: Contexts) -> str:
    entries = {name: entry_json(one) for name, one in sorted(contexts.entries.items())}
    whole = {"format": CONTEXTS_FORMAT, "current": contexts.current, "contexts": entries}
    return json.dumps(whole, indent=2) + "\n"


def entry_json(entry: ContextEntry) -> dict[str, Any]:
    """Return a context as JSON, without its name and without fields that are not set."""
    texts = {name: getattr(entry, name) for name in _TEXTS}
    found: dict[str, Any] = {name: value for name, value in texts.items() if value}
    if entry.nodes:
        found["nodes"] = list(entry.nodes)
    if entry.login:
        found["login"] = {name: value for name, value in asdict(entry.login).items() if value}
    return found
