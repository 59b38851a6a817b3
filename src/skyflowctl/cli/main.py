"""The entry point. Answers from static text, if possible, before typer is loaded."""

import gc
import os
import sys

_NEW_OBJECTS = 50_000
"""How many new objects start a search for garbage; imports alone make 40,000, all of them kept."""

COMPLETE = "__complete"
"""The first word of a call by a completion script; no command, and not for people."""

_ONLY_PRINT = frozenset({"creds", "health", "plan", "status", "validate", "version"})
"""Commands whose only open results at their end are stdout and stderr."""


def start() -> None:
    """Run the command line as the only work of this process: the entry point."""
    gc.set_threshold(_NEW_OBJECTS)
    if sys.argv[1:2] == [COMPLETE] and len(sys.argv) > 3:
        _complete(sys.argv[2:])
    try:
        main()
        leave(0)  # a static page
    except SystemExit as stop:
        if sys.argv[1:2] and sys.argv[1] in _ONLY_PRINT and isinstance(stop.code, int):
            leave(stop.code)
        raise
    except KeyboardInterrupt as error:
        from skyflowctl.cli.app import fail

        fail(sys.argv[1:], error)


def _complete(args: list[str]) -> None:
    """Answer a shell's completion script, and exit without anything that takes longer."""
    from skyflowctl.cli import streams
    from skyflowctl.cli.context.live_names import complete

    streams.open_standard_streams()
    complete(*args)
    os._exit(0)


def leave(code: int) -> None:
    """Exit without taking the interpreter apart, which costs 20 ms after a command's imports.

    It runs what is registered for the exit, and flushes the streams. If a thread still runs that
    Python would wait for, or a stream cannot be flushed, it returns, and the usual exit follows.
    """
    import atexit

    threading = sys.modules.get("threading")  # a static page has not loaded it
    if threading and sum(not thread.daemon for thread in threading.enumerate()) > 1:
        return
    atexit._run_exitfuncs()  # noqa: SLF001 - the only way to run them before os._exit
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(code)


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    from skyflowctl.cli import streams

    streams.open_standard_streams()
    args = sys.argv[1:]
    page = quick_page(args)
    if page is None:
        _run_command(args)
        return
    try:
        sys.stdout.write(page)
        sys.stdout.flush()
    except BrokenPipeError:
        streams.drop_stdout()
    except OSError as error:
        streams.drop_stdout()
        problem = streams.output_failed(error).problems[0]
        sys.exit(f"error: {problem.summary}\nbecause: {problem.why}\nfix: {problem.fix}")


def _run_command(args: list[str]) -> None:
    """Import what runs a command, and run it.

    Raises:
        KeyboardInterrupt: Ctrl-C arrived during the import, which it does not break off: modules
            that are half imported could not report it. A second Ctrl-C ends the process.
    """
    import signal

    arrived = []

    def note(number: int, _frame: object) -> None:
        arrived.append(number)
        signal.signal(number, signal.SIG_DFL)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not if the caller ignores it
        signal.signal(signal.SIGINT, note)
    from skyflowctl.cli.app import run_command_line

    signal.signal(signal.SIGINT, before)
    if arrived:
        raise KeyboardInterrupt
    run_command_line(args)


def quick_page(args: list[str]) -> str | None:
    """Return the static page that these arguments request, else None."""
    if args == ["--version"]:
        from skyflowctl.version import __version__

        return f"skyflowctl {__version__}\n"
    if args and args[-1] not in {"-h", "--help"} and args[0] != "help":
        return None
    return _help_page(args)


def _help_page(args: list[str]) -> str | None:
    from skyflowctl.cli import help as pages
    from skyflowctl.cli.registry import GROUPS

    words = [word for word in args if word not in {"-h", "--help", "help"}]
    if not words:
        return pages.root_page(pages.new_page())
    if len(words) > 1:
        return None
    if words[0] in GROUPS:
        return pages.group_page(words[0], pages.new_page())
    if args[0] == "help" and words[0] in pages.TOPICS:
        return pages.topic_page(words[0], pages.new_page())
    return None
