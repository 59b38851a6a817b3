"""Logs in to the server of a context, by the method that the context or the user names."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from skyflowctl.clock import Clock
from skyflowctl.errors import UsageError, os_reason
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.vault.contexts import LoginSettings
from skyflowctl.vault.errors import VaultError
from skyflowctl.vault.login_api import IssuedLogin, issue_login, look_up_new, refused_login
from skyflowctl.vault.target import is_loopback
from skyflowctl.vault.token_files import checked_token
from skyflowctl.vault.transport import Transport

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_GITLAB_VARIABLE = "VAULT_ID_TOKEN"
_GITHUB_SECONDS = 20
_MOST_BYTES = 1 << 16
_SECRETS = {
    "token": "token",
    "approle": "secret id",
    "userpass": "password",
    "jwt": "JWT",
}
_WITHOUT_A_PERSON = frozenset({"kubernetes", "github", "gitlab"})
_REFUSED = {
    "token": "give a token that is valid on this server",
    "approle": "check --role-id, and issue a new secret id: it may have expired or been used",
    "userpass": "check --username and the password",
    "jwt": "give a token that has not expired, with the claims that the login role wants",
    "oidc": "check --role; the account may lack a claim or a group that the login role wants",
    "kubernetes": "check --role; the login role names the service accounts that it accepts",
    "github": "check --role and --audience; the login role names the repositories that it accepts",
    "gitlab": "check --role, and the aud of id_tokens in .gitlab-ci.yml",
}


@dataclass(frozen=True, slots=True)
class LoginInputs:
    """Where a login takes what is not in its settings.

    Args:
        read: returns the secret that a reference names.
        ask: asks the user for a secret, by its name.
        browse: logs in with OIDC, which takes a browser.
        environ: the process environment.
        clock: tells the time.
    """

    read: Callable[[str], Secret]
    ask: Callable[[str], Secret]
    browse: Callable[[Transport, LoginSettings], IssuedLogin]
    environ: Mapping[str, str]
    clock: Clock


def needs_no_person(settings: LoginSettings) -> bool:
    """Return whether a login can be repeated without a person: its secret is where it can be read.

    Standard input can be read only once, and a given token is not a login that can be repeated.
    """
    stored = settings.secret not in {"", "-"} and settings.method in _SECRETS
    return settings.method in _WITHOUT_A_PERSON or (stored and settings.method != "token")


def log_in(transport: Transport, settings: LoginSettings, inputs: LoginInputs) -> IssuedLogin:
    """Log in once.

    Args:
        transport: to the server, without a token.
        settings: the method and its parameters.
        inputs: everything else.

    Raises:
        UsageError: a parameter of the method is missing.
        NotPermittedError: the server refuses the login.
        VaultError: the server does not answer.
    """
    try:
        if settings.method == "token":
            token = checked_token(_secret(settings, inputs).reveal(), "the user")
            return IssuedLogin(token, look_up_new(transport, token), minted=False)
        if settings.method == "oidc":
            return inputs.browse(transport, settings)
        path, body = _request(settings, inputs)
        return issue_login(transport, path, body, inputs.clock)
    except VaultError as error:
        if not error.status or error.transient:
            raise
        raise refused_login(error, settings.method, _REFUSED[settings.method]) from error


def _request(settings: LoginSettings, inputs: LoginInputs) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of a login."""
    mount = settings.mount or _USUAL_MOUNTS.get(settings.method, settings.method)
    if settings.method == "approle":
        body = {"role_id": _needed(settings, "role_id")}
        return f"auth/{mount}/login", body | {"secret_id": _secret(settings, inputs).reveal()}
    if settings.method == "userpass":
        user = _needed(settings, "username")
        if "/" in user or user in {".", ".."}:
            raise UsageError(
                "the user name is not valid",
                why="it would lead to another path of the server",
                fix="give a name without a slash",
                code="bad-username",
            )
        return f"auth/{mount}/login/{user}", {"password": _secret(settings, inputs).reveal()}
    role = _needed(settings, "role")
    return f"auth/{mount}/login", {"role": role, "jwt": _jwt(settings, inputs).reveal()}


_USUAL_MOUNTS = {"github": "jwt", "gitlab": "jwt"}


def _needed(settings: LoginSettings, name: str) -> str:
    value = str(getattr(settings, name))
    if not value:
        raise UsageError(
            f"a login with {settings.method} needs --{name.replace('_', '-')}",
            why="neither the command line nor the context names it",
            fix="give it, or store it with 'skyflowctl context add NAME'",
            code="incomplete-login",
        )
    return value


def _secret(settings: LoginSettings, inputs: LoginInputs) -> Secret:
    if settings.secret:
        return Secret(inputs.read(settings.secret).reveal().strip())
    return inputs.ask(_SECRETS[settings.method])


def _jwt(settings: LoginSettings, inputs: LoginInputs) -> Secret:
    if settings.secret or settings.method == "jwt":
        return _secret(settings, inputs)
    if settings.method == "kubernetes":
        return inputs.read(f"file:{SERVICE_ACCOUNT}")
    if settings.method == "gitlab":
        return inputs.read(f"env:{_GITLAB_VARIABLE}")
    return _github_token(settings, inputs.environ)


def _github_token(settings: LoginSettings, environ: Mapping[str, str]) -> Secret:
    """Return the id token that GitHub issues to the job that runs this.

    Raises:
        UsageError: this is no such job, or GitHub issues none.
    """
    url = environ.get("ACTIONS_ID_TOKEN_REQUEST_URL", "")
    bearer = environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "")
    if not url or not bearer:
        raise _no_github("this is no job, or it has no permission id-token: write")
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise _no_github("ACTIONS_ID_TOKEN_REQUEST_URL is no https URL")
    if settings.audience:
        url += f"&audience={urllib.parse.quote(settings.audience, safe='')}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {bearer}"})  # noqa: S310 - https, checked above
    try:
        with _NO_REDIRECTS.open(request, timeout=_GITHUB_SECONDS) as answer:
            value = json.loads(answer.read(_MOST_BYTES))["value"]
    except urllib.error.HTTPError as error:
        raise _no_github(f"GitHub answered {error.code}") from None
    except urllib.error.URLError as error:
        reason = os_reason(error.reason) if isinstance(error.reason, OSError) else "no answer"
        raise _no_github(reason) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise _no_github("GitHub's answer cannot be read") from None
    return Secret(str(value))


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the request carries a token."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Return no request."""


_NO_REDIRECTS = urllib.request.build_opener(_RefuseRedirects)


def _no_github(why: str) -> UsageError:
    return UsageError(
        "GitHub issued no id token",
        why=why,
        fix="give the job `permissions: {id-token: write}`, and run the command in it",
        code="no-id-token",
    )


def open_in_browser(url: str) -> bool:
    """Open a page in the user's browser; return whether one was started."""
    # Imported here: only a login with OIDC on a desktop needs it.
    import webbrowser

    if not (
        os.environ.get("BROWSER") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False
    return webbrowser.open(url)
