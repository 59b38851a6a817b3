"""Distinguishes a dev server from a real one, by any route to it."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from skyflowctl.devstack.layout import DEV_DIR_VARIABLE, DevLayout, find_layout
from skyflowctl.devstack.state import load_state
from skyflowctl.errors import RefusedError

# In every reply of a dev server: its folder, percent-encoded. So each client, by any route, can
# distinguish it from a real one.
DEV_HEADER = "X-Skyflowctl-Dev"


def is_address_of_dev_stack(address: str, environ: Mapping[str, str]) -> bool:
    """Return whether an address is that of this machine's dev server.

    Sends no request: for commands that send none to the named server.
    """
    server = load_state(find_layout(environ)).server
    return server is not None and address.rstrip("/") == server.address


def recognise(cluster_id: str, announced: str, environ: Mapping[str, str]) -> DevLayout | None:
    """Return the dev folder of the server that answered, or None for a real server.

    Args:
        cluster_id: the server's own id.
        announced: the value of its ``X-Skyflowctl-Dev`` header; empty: it sent none.
        environ: may name another dev folder.

    Raises:
        RefusedError: it reports to be a dev server, and its folder does not know it. No credential
            may be sent to it.
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
