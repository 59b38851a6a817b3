"""Telling a dev server from a real one, however it was reached."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from skyflowctl.devstack.layout import DEV_DIR_VARIABLE, DevLayout, find_layout
from skyflowctl.devstack.state import load_state
from skyflowctl.errors import RefusedError

# On every reply of a dev server: its folder, percent-encoded. Whoever reaches the server,
# by whatever way, can tell it from a real one.
DEV_HEADER = "X-Skyflowctl-Dev"


def is_address_of_dev_stack(address: str, environ: Mapping[str, str]) -> bool:
    """Tell whether an address is that of the dev server that is known here.

    Nothing is asked: for commands that make no request to the server that is named.
    """
    server = load_state(find_layout(environ)).server
    return server is not None and address.rstrip("/") == server.address


def recognise(cluster_id: str, announced: str, environ: Mapping[str, str]) -> DevLayout | None:
    """Return the dev folder of the server that answered, or None for a real server.

    Args:
        cluster_id: the server's own id.
        announced: the value of its ``X-Skyflowctl-Dev`` header; empty when it sent none.
        environ: where another dev folder may be named.

    Raises:
        RefusedError: it says that it is a dev server, and its folder does not know it. No
            credential of yours may go there.
    """
    folders = [find_layout(environ)]
    if announced and (named := Path(unquote(announced))).is_absolute():
        folders.insert(0, DevLayout(named))
    for layout in folders:
        if cluster_id and load_state(layout).cluster_id == cluster_id:
            return layout
    if announced:
        raise RefusedError(
            "this server is an unknown dev stack",
            why=f"no dev.json in {unquote(announced)} names its cluster",
            fix=f"run 'skyflowctl dev up' there, or name its folder in {DEV_DIR_VARIABLE}",
            code="unknown-dev-stack",
        )
    return None
