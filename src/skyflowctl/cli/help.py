"""Help pages that need no typer: the root page, group pages and topics.

All text is in the static table and in this module, so ``skyflowctl --help`` takes little longer
than starting Python.
"""

import os
import re
import shutil
import sys

from skyflowctl.cli.registry import GROUPS, children
from skyflowctl.vault.environment import VARIABLES, variable

# A command is one unit, in quotes or after a colon, and so is a text in brackets.
_WORD = re.compile(
    r"'(?:skyflowctl|bao) [^']*'\S*"
    r"|(?:(?<=: )|(?<=:  ))(?:skyflowctl|bao) (?:(?![,;] )\S| (?=\S))+[,;]?"
    r"|\[[^][]*\]\S*|\S+"
)

_WIDEST_NAME = 30

TAGLINE = "Short-lived Skyflow tokens through OpenBao or Vault."
USAGE = "skyflowctl COMMAND [OPTIONS]"

EXIT_CODES = {
    0: "done",
    1: "unexpected: an error in skyflowctl",
    2: "changes are pending, or the server drifted (only with --detailed-exitcode)",
    3: "partial; run the same command again (rotate: some failed, all mounts serve)",
    4: "not authenticated, or not permitted",
    5: "refused by a safety check or a lost check-and-set; nothing was written",
    6: "unhealthy (health: also unreachable; rotate, apply: a mount does not serve;"
    " posture: a critical finding, or a core part that could not be read)",
    7: "pending: the server holds the request until another person approves it",
    64: "wrong usage, or no server named",
    65: "the manifest or a credential is invalid",
    69: "the server is unreachable or sealed",
    130: "interrupted (SIGINT)",
    143: "terminated (SIGTERM)",
}

ENVIRONMENT = {
    "SKYFLOWCTL_FILE": "the manifest, if -f is not given (else ./mounts.yaml)",
    "SKYFLOWCTL_AUDIT_LOG": "audit logs, separated by colons, if no LOG is given",
    **{f"BAO_{one.name}": one.text for one in VARIABLES if not one.instead},
    "SKYFLOWCTL_CONTEXT": "the context, if nothing else names a server",
    "SKYFLOWCTL_NODES": "addresses of further nodes, separated by commas",
    "SKYFLOWCTL_ALLOW_HOSTS": "additional token services as HOST:PORT, separated by commas",
    "SKYFLOWCTL_BAO": "the OpenBao binary of the dev stack",
    "SKYFLOWCTL_DEV_DIR": "the dev stack's folder (else ./.skyflowctl/dev)",
    "XDG_CONFIG_HOME": "folder of skyflowctl/contexts.json (else ~/.config)",
    "XDG_STATE_HOME": "folder for open rotations and pending requests (else ~/.local/state)",
    "XDG_CACHE_HOME": "folder for the names that completion found (else ~/.cache)",
    "SKYFLOWCTL_DEBUG": "1: show a traceback for an unexpected error",
    "NO_COLOR, FORCE_COLOR": "never or always use colour",
}

TOPICS = {
    "exit-codes": "Exit codes",
    "environment": "Environment variables",
    "output": "The JSON output of -o json",
}

_OUTPUT = """\
stdout holds data only; notices, warnings, progress and errors go to stderr.
With `-o json`, every command prints one object, even if it fails:

  format_version  "1.0"; keys may be added, existing keys keep their meaning
  command         the command's name, such as "mount list"
  run_id          this run's id; the server's audit log shows it in the request
                  header X-Skyflowctl-Run
  status          ok, changes, partial, pending, refused, unhealthy or error
  data            the command's data; {} if it failed
  errors          a list of {code, summary, why, fix, where}

Commands that stream print one object per line. The first has the type
"version"; the last has the type "result" and contains the whole envelope.
The JSON Schemas are in the package, in schemas/output.
"""


def wants_color(stream: object = None) -> bool:
    """Return whether help on this stream (default: stdout) may use colour.

    NO_COLOR and BAO_CLI_NO_COLOR override FORCE_COLOR, which overrides TERM=dumb and a stream that
    is not a terminal.
    """
    if os.environ.get("NO_COLOR") or variable(os.environ, "CLI_NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in {"", "0"}:
        return True
    if os.environ.get("TERM") == "dumb":
        return False
    isatty = getattr(stream or sys.stdout, "isatty", None)
    return bool(isatty and isatty())


def help_width() -> int:
    """Return the width of help in columns: the terminal's, at most 100, at least 40."""
    return max(40, min(100, shutil.get_terminal_size((80, 24)).columns))


class Page:
    """Collects the lines of a help page; styles them only if colour is on."""

    def __init__(self, *, color: bool, width: int) -> None:
        self._color = color
        self.width = width
        self._lines: list[str] = []

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text

    def line(self, text: str = "") -> None:
        """Add one line unchanged."""
        self._lines.append(text)

    def heading(self, text: str) -> None:
        """Add an empty line and a heading."""
        self._lines += ["", self._paint(text, "1")]

    def paragraph(self, text: str, indent: str = "") -> None:
        """Add text that is wrapped to the width."""
        self._lines += wrap(text, self.width, indent)

    def example(self, command: str, note: str) -> None:
        """Add a note and, under it, a command line to copy."""
        if note:
            self._lines.append("  " + self._paint(f"# {note}", "2"))
        self._lines.append("  " + self._paint(command, "36"))

    def rows(self, pairs: "list[tuple[str, str]]", at_least: int = 0) -> None:
        """Add aligned pairs: a name of at least ``at_least`` columns, and a text next to it."""
        longest = max((len(name) for name, _ in pairs), default=0)
        left = min(max(longest, at_least), _WIDEST_NAME) + 4
        for name, text in pairs:
            wrapped = wrap(text, self.width, " " * left) or [""]
            first = wrapped[0][left:]
            if len(name) + 4 > left:
                self._lines.append("  " + self._paint(name, "32"))
                self._lines += wrapped
                continue
            gap = " " * (left - 2 - len(name))
            self._lines.append(f"  {self._paint(name, '32')}{gap}{first}".rstrip())
            self._lines += wrapped[1:]

    def text(self) -> str:
        """Return the page, ending in a newline."""
        return "\n".join(self._lines) + "\n"


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Wrap text at spaces, but not within brackets or a quoted command.

    A line has at most ``width`` columns, except for a longer word.
    """
    lines: list[str] = []
    current = ""
    for word in _WORD.findall(text):
        candidate = f"{current} {word}" if current else indent + word
        if current and len(candidate) > width:
            lines.append(current)
            candidate = indent + word
        current = candidate
    return [*lines, current] if current else lines


def root_page(page: Page) -> str:
    """Return the page of ``skyflowctl --help``."""
    page.paragraph(TAGLINE)
    page.heading("Usage")
    page.line(f"  {USAGE}")
    page.heading("Examples")
    page.example("skyflowctl dev up", "start a complete stack on this machine")
    page.example("skyflowctl apply", "change the server to match mounts.yaml")
    page.example("skyflowctl creds order order-producer --ctx order:ORD-42", "mint a token")
    _command_rows(page, "")
    page.heading("Options")
    page.rows([("-h, --help", "Show this page."), ("--version", "Print the version.")])
    page.heading("More")
    page.rows(
        [("COMMAND --help", "examples, options and exit codes of one command")]
        + [(f"help {name}", text) for name, text in TOPICS.items()]
    )
    return page.text()


def group_page(group: str, page: Page) -> str:
    """Return the page of a group such as ``skyflowctl mount --help``."""
    page.paragraph(f"{GROUPS[group]}.")
    page.heading("Usage")
    page.line(f"  skyflowctl {group} COMMAND [OPTIONS]")
    _command_rows(page, group)
    page.heading("More")
    page.rows([(f"{group} COMMAND --help", "examples, options and exit codes of one command")])
    return page.text()


def _command_rows(page: Page, group: str) -> None:
    panels: dict[str, list[tuple[str, str]]] = {}
    for word, summary, panel in children(group):
        panels.setdefault(panel, []).append((word, summary))
    longest = max(len(word) for pairs in panels.values() for word, _ in pairs)
    for panel, pairs in panels.items():
        page.heading(panel)
        page.rows(pairs, longest)


def topic_page(topic: str, page: Page) -> str:
    """Return the page of a topic: a key of ``TOPICS``."""
    page.paragraph(f"{TOPICS[topic]}.")
    page.line()
    if topic == "exit-codes":
        page.rows([(str(code), text) for code, text in EXIT_CODES.items()])
        page.line()
        page.paragraph(
            "The meaning of a code never changes. exec has the exit code of its program."
        )
    elif topic == "environment":
        page.rows(list(ENVIRONMENT.items()))
        page.line()
        page.paragraph(
            "Every BAO_X also works as VAULT_X; BAO_X takes precedence, even if it is empty. A flag"
            " takes precedence over the environment. Address, namespace and token always come"
            " from one source. Not used; a warning is printed if they are set: "
            + ", ".join(f"BAO_{one.name}" for one in VARIABLES if one.instead)
            + "."
        )
    else:
        for line in _OUTPUT.splitlines():
            page.line(line)
    return page.text()


def new_page() -> Page:
    """Return an empty page for this terminal."""
    return Page(color=wants_color(), width=help_width())
