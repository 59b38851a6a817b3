"""Builds a tree with positions from YAML text, and reports every doubtful value."""

from collections.abc import Mapping
from dataclasses import field
from typing import NoReturn

import yaml

from skyflowctl.errors import Problem, Where
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.interpolate import BadInterpolationError, interpolate
from skyflowctl.manifest.messages import how_to_quote, looks_like_credential, shown
from skyflowctl.manifest.nodes import ManifestFile, Path, YamlNode, pointer
from skyflowctl.manifest.schema import rule_at
from skyflowctl.manifest.yaml_events import (
    AmbiguousScalarError,
    YamlEvent,
    YamlSyntaxError,
    scalar_value,
    yaml_events,
)

MAX_DEPTH = 40
MAX_NODES = 1_000_000
_PLAIN_STYLES = (None, "")
_STANDARD_TAGS = {
    yaml.ScalarEvent: ("!", "tag:yaml.org,2002:str"),
    yaml.SequenceStartEvent: ("!", "tag:yaml.org,2002:seq"),
    yaml.MappingStartEvent: ("!", "tag:yaml.org,2002:map"),
}
_MERGE = "<<"

_ONE_MANIFEST = "a file holds one manifest"
_NO_KEY = "a list, a map or an alias is in its place"
_READERS_DIFFER = "YAML parsers read it as text, a boolean, a date or a number"
_EMPTY = "it contains only whitespace and comments"
_NO_MAP = "this file contains a list or a single value"


@dataclass(frozen=True, slots=True)
class Tree:
    """The content of one file. ``refused`` are the paths that have a problem."""

    root: YamlNode | None
    problems: tuple[Problem, ...]
    refused: frozenset[Path]


class _StopError(Exception):
    """Reading cannot continue; the problem is already recorded."""


@dataclass(slots=True)
class _Frame:
    """A map or list that is still open."""

    line: int
    column: int
    anchor: str | None
    nodes_before: int
    items: list[YamlNode] | None = None
    entries: dict[str, YamlNode] = field(default_factory=dict)
    merged: dict[str, YamlNode] = field(default_factory=dict)
    key: str | None = None
    key_line: int = 0
    key_column: int = 0
    is_key: bool = False
    skip_value: bool = False

    def wants_key(self) -> bool:
        return self.items is None and self.key is None and not self.skip_value

    def last_part(self) -> str | int | None:
        return len(self.items) if self.items is not None else self.key


def read_tree(text: str, source: ManifestFile, environ: Mapping[str, str]) -> Tree:
    """Read one document. It never raises for the content of the text, but returns problems."""
    builder = _Builder(source, environ)
    try:
        builder.run(text)
    except YamlSyntaxError as error:
        where = Where(source.name, error.line, error.column)
        problem = Problem("yaml-syntax", "this is not valid YAML", error.why, error.fix, where)
        builder.problems.append(problem)
        builder.root = None
    except _StopError:
        builder.root = None
    return Tree(builder.root, tuple(builder.problems), frozenset(builder.refused))


class _Builder:
    """Builds a tree from events; iterative, so that depth needs no stack."""

    def __init__(self, source: ManifestFile, environ: Mapping[str, str]) -> None:
        self.source = source
        self.environ = environ
        self.problems: list[Problem] = []
        self.refused: set[Path] = set()
        self.root: YamlNode | None = None
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[YamlNode, int]] = {}
        self._nodes = 0
        self._documents = 0

    def run(self, text: str) -> None:
        handlers = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._open,
            yaml.SequenceStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
        }
        for event in yaml_events(text):
            handler = handlers.get(type(event))
            if handler:
                handler(event)
        self._check_root()

    # -- events --

    def _document(self, event: YamlEvent) -> None:
        self._documents += 1
        if self._documents > 1:
            fix = "keep one document per file, and pass several files with several -f"
            self._stop(
                "several-documents", "a second document starts here", fix, event, _ONE_MANIFEST
            )

    def _open(self, event: YamlEvent) -> None:
        self._check_tag(event)
        if len(self._frames) >= MAX_DEPTH:
            summary, why = f"more than {MAX_DEPTH} levels", "no manifest needs that many"
            self._stop("too-deep", summary, "close a bracket, or check the indentation", event, why)
        mark = event.start_mark
        frame = _Frame(mark.line + 1, mark.column + 1, event.anchor, self._count(1, event) - 1)
        if type(event) is yaml.SequenceStartEvent:
            frame.items = []
        if self._frames and self._frames[-1].wants_key():
            self._problem("bad-key", "a key must be plain text", "write KEY: VALUE", event, _NO_KEY)
            frame.is_key = True
        self._frames.append(frame)

    def _close(self, event: YamlEvent) -> None:
        frame = self._frames.pop()
        value = frame.items if frame.items is not None else {**frame.merged, **frame.entries}
        node = YamlNode(value, self.source, frame.line, frame.column)
        if frame.is_key:
            self._frames[-1].skip_value = True
            return
        self._remember(frame.anchor, node, self._nodes - frame.nodes_before)
        self._add(node, event)

    def _scalar(self, event: YamlEvent) -> None:
        self._count(1, event)
        frame = self._frames[-1] if self._frames else None
        if frame is not None and frame.wants_key():
            self._key(event, frame)
            return
        mark = event.start_mark
        node = YamlNode(self._value(event), self.source, mark.line + 1, mark.column + 1)
        if event.anchor:
            self._remember(event.anchor, node, 1)
        self._add(node, event)

    def _alias(self, event: YamlEvent) -> None:
        known = self._anchors.get(event.anchor)
        if known is None:
            fix = "define it before its use, and outside of what uses it; or quote the text"
            why = "an alias repeats the value of an earlier anchor of the same name"
            self._stop("unknown-alias", "this alias refers to an undefined anchor", fix, event, why)
        node, size = known
        self._count(size, event)
        if self._frames and self._frames[-1].wants_key():
            self._problem("bad-key", "a key must be plain text", "write KEY: VALUE", event, _NO_KEY)
            self._frames[-1].skip_value = True
            return
        self._add(node, event)

    # -- putting together --

    def _add(self, node: YamlNode, event: YamlEvent) -> None:
        if not self._frames:
            self.root = node
            return
        frame = self._frames[-1]
        if frame.skip_value:
            frame.skip_value = False
        elif frame.items is not None:
            frame.items.append(node)
        elif frame.key == _MERGE:
            self._merge(frame, node, event)
        elif frame.key is not None:
            frame.entries[frame.key] = node._replace(
                key_line=frame.key_line, key_column=frame.key_column
            )
        frame.key = None

    def _merge(self, frame: _Frame, node: YamlNode, event: YamlEvent) -> None:
        maps = node.value if isinstance(node.value, list) else [node]
        for part in maps:
            if not isinstance(part.value, dict):
                why = "it puts the entries of one map into another"
                self._problem("bad-merge", "<< takes only maps", "write <<: *NAME", event, why)
                return
            for key, value in part.value.items():
                frame.merged.setdefault(key, value)

    def _key(self, event: YamlEvent, frame: _Frame) -> None:
        mark = event.start_mark
        frame.key, frame.key_line, frame.key_column = event.value, mark.line + 1, mark.column + 1
        if event.value == _MERGE and event.style in _PLAIN_STYLES:
            return
        self._check_key_text(event)
        first = frame.entries.get(event.value)
        if first is not None:
            self._problem(
                "duplicate-key",
                f'the key "{shown(event.value)}" is given twice',
                "remove one of them",
                event,
                f"it is already on line {first.key_line}",
            )

    def _check_key_text(self, event: YamlEvent) -> None:
        if looks_like_credential(event.value):
            self._refuse_credential(event)
        elif event.style in _PLAIN_STYLES and not reads_as_text(event.value):
            summary = f'the key "{shown(event.value)}" is not text for every YAML parser'
            rule = rule_at(self._path()[:-1]).get("propertyNames", {})
            fix = how_to_quote(event.value, {"type": "string", **rule})
            self._refuse("quote-it", summary, fix, event, _READERS_DIFFER)

    def _value(self, event: YamlEvent) -> str | int | float | bool | None:
        self._check_tag(event)
        text: str = event.value
        if event.style in _PLAIN_STYLES and event.tag is None:
            try:
                value = scalar_value(text)
            except AmbiguousScalarError:
                self._refuse_ambiguous(text, event)
                return text
            if not isinstance(value, str):
                return value
        if "${" in text:
            text = self._interpolated(text, event)
        if looks_like_credential(text):
            self._refuse_credential(event)
        return text

    def _interpolated(self, text: str, event: YamlEvent) -> str:
        try:
            return interpolate(text, self.environ)
        except BadInterpolationError as error:
            self._refuse(error.code, error.summary, error.fix, event, error.why)
            return text

    def _remember(self, anchor: str | None, node: YamlNode, size: int) -> None:
        if anchor:
            self._anchors[anchor] = node, size

    # -- what is wrong --

    def _check_root(self) -> None:
        root = self.root
        if root is None or root.value is None:
            where = Where(self.source.name, 1, 1)
            fix = "write a first one with: skyflowctl init"
            self.problems.append(Problem("empty-manifest", "the file is empty", _EMPTY, fix, where))
            raise _StopError
        if not isinstance(root.value, dict):
            where = Where(self.source.name, root.line, root.column, "")
            fix = "start with: version: 1"
            problem = Problem("not-a-map", "a manifest is a map of keys", _NO_MAP, fix, where)
            self.problems.append(problem)
            raise _StopError

    def _check_tag(self, event: YamlEvent) -> None:
        if event.tag is not None and event.tag not in _STANDARD_TAGS[type(event)]:
            fix = "remove it; quote what is to be text"
            why = "the schema alone says what a value is, the same for every reader"
            self._refuse("yaml-tag", "YAML tags are not used in a manifest", fix, event, why)

    def _refuse_ambiguous(self, text: str, event: YamlEvent) -> None:
        fix = how_to_quote(text, rule_at(self._path()))
        self._refuse("quote-it", f"{shown(text)} is ambiguous in YAML", fix, event, _READERS_DIFFER)

    def _refuse_credential(self, event: YamlEvent) -> None:
        self._refuse(
            "inline-credential",
            "the manifest contains a key, token or credential",
            "move it to a file of its own, refer to it (credentials: {file: PATH}), "
            "and replace it: it has been seen",
            event,
            "a manifest is read by many and kept in version control",
        )

    def _path(self) -> Path:
        parts = (frame.last_part() for frame in self._frames)
        return tuple(part for part in parts if part is not None)

    def _refuse(self, code: str, summary: str, fix: str, event: YamlEvent, why: str) -> None:
        self.refused.add(self._path())
        self._problem(code, summary, fix, event, why)

    def _problem(self, code: str, summary: str, fix: str, event: YamlEvent, why: str) -> None:
        mark = event.start_mark
        where = Where(self.source.name, mark.line + 1, mark.column + 1, pointer(self._path()))
        self.problems.append(Problem(code, summary, why, fix, where))

    def _stop(self, code: str, summary: str, fix: str, event: YamlEvent, why: str) -> NoReturn:
        self._problem(code, summary, fix, event, why)
        raise _StopError

    def _count(self, nodes: int, event: YamlEvent) -> int:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            fix = "split it, or use fewer aliases"
            summary = f"more than {MAX_NODES:,} values, aliases included"
            self._stop("too-large", summary, fix, event, "no manifest needs that many")
        return self._nodes


def reads_as_text(text: str) -> bool:
    """Return whether every YAML reader takes a text without quotes for a text."""
    try:
        return isinstance(scalar_value(text), str)
    except AmbiguousScalarError:
        return False
