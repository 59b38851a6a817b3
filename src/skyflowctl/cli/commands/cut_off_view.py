"""A mount that was cut off: since when, why, and the way out."""

from collections.abc import Mapping

from skyflowctl.cli.console import Styled, Terminal


def cut_off_note(
    name: str,
    revoked: Mapping[str, str] | None,
    terminal: Terminal,
    *,
    basic: bool = False,
    namespace: str = "",
) -> None:
    """Write the cut-off, if there is one, and the way out of it.

    Args:
        name: of the mount, or its path, with the namespace in front if that is given.
        revoked: what is kept of the cut-off; empty or None: it is not cut off.
        terminal: where to.
        basic: its engine is known to have the basic API only.
        namespace: that the way out has to name; empty: none.
    """
    if not revoked:
        return
    from skyflowctl.vault.live import BASIC_API, FULL_API, LiveRevocation, way_out

    terminal.line(Styled(f"{name} is {LiveRevocation(**revoked).sentence()}", "bold red"))
    mount = f"{name.removeprefix(f'{namespace}/')} -n {namespace}" if namespace else name
    terminal.line("  ", way_out(mount, BASIC_API if basic else FULL_API))
