"""Shows since when and why a mount is cut off, and the fix."""

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
    """Write the cut-off, if any, and the fix.

    Args:
        name: of the mount, or its path, with the namespace in front if that is given.
        revoked: the record of the cut-off; empty or None: it is not cut off.
        terminal: where to.
        basic: its engine is known to have the basic API only.
        namespace: the namespace that the fix must name; empty: none.
    """
    if not revoked:
        return
    from skyflowctl.vault.live import BASIC_API, FULL_API, LiveRevocation, way_out

    terminal.line(Styled(f"{name} is {LiveRevocation(**revoked).sentence()}", "bold red"))
    mount = f"{name.removeprefix(f'{namespace}/')} -n {namespace}" if namespace else name
    terminal.line("  ", way_out(mount, BASIC_API if basic else FULL_API))
