"""The options that say how to log in: ``context add`` stores them, ``login`` uses them."""

from typing import Annotated, Literal

from skyflowctl.cli.options import OptionGroup, option
from skyflowctl.frozen import dataclass

LOGIN_PANEL = "Login"


@dataclass(frozen=True, slots=True)
class LoginOptions(OptionGroup):
    """How to log in; none of them is a secret."""

    method: Annotated[
        Literal["token", "approle", "userpass", "jwt", "oidc", "kubernetes", "github", "gitlab"]
        | None,
        option(
            "--method",
            help="token, approle, userpass, jwt, oidc, kubernetes, github or gitlab.",
            panel=LOGIN_PANEL,
            metavar="METHOD",
        ),
    ] = None
    mount: Annotated[
        str | None,
        option(
            "--mount",
            help="The path of the login method, if it is not its usual one.",
            panel=LOGIN_PANEL,
            metavar="PATH",
        ),
    ] = None
    role: Annotated[
        str | None,
        option("--role", help="The login role.", panel=LOGIN_PANEL, metavar="NAME"),
    ] = None
    username: Annotated[
        str | None,
        option("--username", help="The user of userpass.", panel=LOGIN_PANEL, metavar="NAME"),
    ] = None
    role_id: Annotated[
        str | None,
        option("--role-id", help="The role id of AppRole.", panel=LOGIN_PANEL, metavar="ID"),
    ] = None
    secret: Annotated[
        str | None,
        option(
            "--secret",
            help="The secret id, password, JWT or token: file:PATH, env:NAME, "
            "keyring:SERVICE/USERNAME, or - for stdin. Default: it is asked for.",
            panel=LOGIN_PANEL,
            metavar="REF",
        ),
    ] = None
    audience: Annotated[
        str | None,
        option(
            "--audience",
            help="The audience of GitHub's id token.",
            panel=LOGIN_PANEL,
            metavar="URL",
        ),
    ] = None
