"""A mount that was cut off: since when, why, and the way out."""

from collections.abc import Mapping

from skyflowctl.cli.render.terminal import Styled, Terminal


def cut_off_note(name: str, revoked: Mapping[str, str] | None, terminal: Terminal) -> None:
    """Write the cut-off, if there is one, and the way out of it."""
    if not revoked:
        return
    from skyflowctl.vault.live import LiveRevocation

    terminal.line(Styled(f"{name} is {LiveRevocation(**revoked).sentence()}", "bold red"))
    terminal.line("  ", way_out(name))


def way_out(name: str) -> str:
    """Return how a mount that was cut off gives tokens again."""
    return f"the way out is a new key: 'skyflowctl rotate {name} --credentials REF'"
