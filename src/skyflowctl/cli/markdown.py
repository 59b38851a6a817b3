"""A page of Markdown for a merge request or a step summary of GitHub or GitLab.

Only words and numbers of ours are Markdown. Every text from outside (a value, a name, a message)
is in a fenced block: there it is neither HTML nor a link, mentions nobody, and cannot end the
block, because the fence is longer than any run of backticks in it.
"""

import re
from collections.abc import Sequence
from dataclasses import field

from skyflowctl.cli.console import safe
from skyflowctl.frozen import dataclass
from skyflowctl.text import counted

LONGEST = 65_536
"""The most characters of a comment on GitHub; GitLab takes 1,000,000."""
_RESERVE = 1_000
"""Characters for the sentence about a cut, and for a line that a pipeline puts before the page."""
_LONGEST_LINE = 1_000
_MOST_LINES = 300
"""The most lines of one group: a long one must not take the room of all others."""
_FENCE = 3

LineGroup = Sequence[str]
"""Lines that belong together."""


@dataclass(frozen=True, slots=True)
class _Fold:
    what: str
    groups: Sequence[LineGroup]
    language: str
    is_open: bool

    @property
    def title(self) -> str:
        return f"{len(self.groups)} {self.what}"

    def text(self, groups: Sequence[LineGroup]) -> str:
        """Return it with these groups; empty without any."""
        if not groups:
            return ""
        block = _fenced("\n".join("\n".join(group) for group in groups), self.language)
        is_open = " open" if self.is_open else ""
        return f"<details{is_open}>\n<summary>{self.title}</summary>\n\n{block}\n\n</details>\n\n"


@dataclass(slots=True)
class MarkdownPage:
    """A page: a heading, paragraphs and tables of our own words, then folded blocks."""

    _head: list[str] = field(default_factory=list)
    _folds: list[_Fold] = field(default_factory=list)
    _clipped: int = 0

    def paragraph(self, text: str) -> None:
        """Add a paragraph or a heading of our own words."""
        self._head.append(f"{text}\n\n")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
        """Add a table of our own words; nothing without rows. All columns but the first hold
        numbers."""
        if not rows:
            return
        every = [headers, ["---", *["--:"] * (len(headers) - 1)], *rows]
        lines = (f"| {' | '.join(map(str, row))} |" for row in every)
        self._head.append("\n".join(lines) + "\n\n")

    def block(self, lines: Sequence[str], language: str = "text") -> None:
        """Add lines from outside that are always shown whole, before all folds."""
        block = _fenced("\n".join(map(self._line, lines)), language)
        self._head.append(f"{block}\n\n")

    def fold(
        self,
        what: str,
        groups: Sequence[LineGroup],
        language: str = "text",
        *,
        is_open: bool = False,
    ) -> None:
        """Add groups of lines from outside; nothing if there are none.

        Args:
            what: the words after their number, such as ``to delete``.
            groups: what is left out together if the page is too long.
            language: of the fenced block.
            is_open: whether it is unfolded.
        """
        if groups:
            fitted = [self._group(group) for group in groups]
            self._folds.append(_Fold(what, fitted, language, is_open))

    def text(self, whole: str) -> str:
        """Return the page, in at most :data:`LONGEST` characters.

        Args:
            whole: the command that shows everything, for the sentence about a cut.
        """
        head = "".join(self._head)
        room = LONGEST - _RESERVE - len(head)
        body, missing = [], []
        for one in self._folds:
            kept = _fitting(one, room)
            body.append(one.text(kept))
            room -= len(body[-1])
            if left := len(one.groups) - len(kept):
                missing.append(f"{left:,} of {len(one.groups):,} {one.what}")
        return f"{head}{self._cut(missing, whole)}{''.join(body)}".rstrip() + "\n"

    def _cut(self, missing: Sequence[str], whole: str) -> str:
        """Return the sentence that says what is not on the page."""
        parts = list(missing)
        if self._clipped:
            parts.append(f"the ends of {counted(self._clipped, 'long text')}")
        if not parts:
            return ""
        return (
            f"**Cut, because a comment may have {LONGEST:,} characters.** Not shown here: "
            f"{'; '.join(parts)}. `{whole}` shows everything.\n\n"
        )

    def _group(self, group: LineGroup) -> LineGroup:
        lines = [self._line(line) for line in group[:_MOST_LINES]]
        if more := len(group) - len(lines):
            self._clipped += 1
            lines.append(f"… ({counted(more, 'more line', 'more lines')})")
        return lines

    def _line(self, text: str) -> str:
        text = safe(text).rstrip()
        if len(text) <= _LONGEST_LINE:
            return text
        self._clipped += 1
        return f"{text[:_LONGEST_LINE]}… ({len(text) - _LONGEST_LINE:,} more characters)"


def _fenced(text: str, language: str) -> str:
    """Return a block whose fence is longer than any run of backticks in it."""
    runs = re.findall("`+", text)
    fence = "`" * max(_FENCE, 1 + max(map(len, runs), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _fitting(fold: _Fold, room: int) -> Sequence[LineGroup]:
    """Return the groups that fit, in their order."""
    used = len(fold.text([[]])) + 2 * _LONGEST_LINE  # a fence is as long as its text makes it
    kept = []
    for group in fold.groups:
        size = sum(len(line) + 1 for line in group)
        if used + size <= room:
            kept.append(group)
            used += size
    return kept
