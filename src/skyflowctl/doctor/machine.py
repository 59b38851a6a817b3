"""Checks of this machine that need no server: the environment, proxies and the packages."""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from urllib.parse import urlsplit

from skyflowctl.doctor.model import Diagnosis, Grade, of_problem, ok_finding
from skyflowctl.secret import Secret
from skyflowctl.skyflow.http.proxies import proxy_for
from skyflowctl.text import counted
from skyflowctl.vault import client_settings, token_files
from skyflowctl.vault.environment import VARIABLES, address_variables, variable

ENVIRONMENT, PROXY, PACKAGES = "environment", "proxy", "packages"
_SECRET = frozenset({"TOKEN", "CLIENT_KEY_BYTES", "PROXY_ADDR", "HTTP_PROXY"})
_PREFIXES = ("BAO_", "VAULT_")
_OWN = "SKYFLOWCTL"
_KNOWN = frozenset(one.name for one in VARIABLES)
_ALIKE = 0.7
"""Two names are alike from this ratio on: ADDRESS and ADDR are, TOKEN and TOKEN_FILE are not."""
_ALIKE_PREFIX = 0.66
"""So that BOA and VALUT are found, and VAULTWARDEN is left alone."""
_SERVERS_WORD = "KMIP_"
_SKYFLOW_HOST = "manage.skyflowapis.com"
_SDK = "skyflow"
SDK_PINNED = f"{_SDK}==2.1.3"


def check_environment(
    environ: Mapping[str, str], own: Collection[str], *, context: str = ""
) -> Iterator[Diagnosis]:
    """Yield what the environment's names mean, and which of them disagree or are misspelt.

    Args:
        environ: the process environment.
        own: the names of skyflowctl's own variables, which begin with ``SKYFLOWCTL_``.
        context: the name of the context that the environment's address hides; empty: none.
    """
    named = sorted(name for name in environ if name.startswith(_PREFIXES))
    unused = (*client_settings.not_used(environ), *token_files.unused_settings(environ))
    found = [
        *_doubled(environ),
        *_hidden(environ, context),
        *_misspelt(environ, own),
        *(of_problem(ENVIRONMENT, Grade.WARNING, problem) for problem in unused),
    ]
    yield from found
    used = [name for name in named if name.partition("_")[2] in _KNOWN]
    if used:
        shown = ", ".join(_shown(name, environ[name]) for name in used)
        text = f"{counted(len(used), 'variable')} of the stock client"
        yield ok_finding(ENVIRONMENT, text, shown)
    elif not found:
        yield ok_finding(ENVIRONMENT, "no BAO_ or VAULT_ variable is set")


def _shown(name: str, value: str) -> str:
    secret = name.partition("_")[2] in _SECRET or "@" in value
    return f"{name}=(set)" if secret or not value.isprintable() else f"{name}={value}"


def _doubled(environ: Mapping[str, str]) -> Iterator[Diagnosis]:
    for one in VARIABLES:
        ours, theirs = f"BAO_{one.name}", f"VAULT_{one.name}"
        if ours in environ and environ.get(theirs, environ[ours]) != environ[ours]:
            yield Diagnosis(
                ENVIRONMENT,
                Grade.WARNING,
                f"{ours} and {theirs} disagree",
                f"{ours} counts, for skyflowctl and for bao; a Vault client takes {theirs}",
                f"unset {theirs}",
            )


def _hidden(environ: Mapping[str, str], context: str) -> Iterator[Diagnosis]:
    """Yield a source of the address that another one hides."""
    agent, address = variable(environ, "AGENT_ADDR"), variable(environ, "ADDR")
    if agent and address and agent != address:
        yield Diagnosis(
            ENVIRONMENT,
            Grade.WARNING,
            "the address of an agent hides the server's",
            "AGENT_ADDR counts before ADDR, and an agent may add a login of its own",
            "unset BAO_AGENT_ADDR VAULT_AGENT_ADDR",
        )
    if context:
        yield Diagnosis(
            ENVIRONMENT,
            Grade.WARNING,
            f"the environment's address hides the context {context}",
            "address and token come from one source, and the environment is the first",
            f"unset {' '.join(address_variables(environ))}",
        )
    token = variable(environ, "TOKEN")
    if token and not (agent or address):
        name = "BAO_TOKEN" if environ.get("BAO_TOKEN") else "VAULT_TOKEN"
        yield Diagnosis(
            ENVIRONMENT,
            Grade.WARNING,
            f"{name} is set, and no address that it belongs to",
            "it is never sent to an address from a flag or a context",
            "export BAO_ADDR=https://HOST:8200",
        )


def _misspelt(environ: Mapping[str, str], own: Collection[str]) -> Iterator[Diagnosis]:
    """Yield names that no client reads, each with the name that was probably meant."""
    for name in sorted(environ):
        meant = _meant(name, own)
        if meant and meant not in environ:
            fix = f'export {meant}="${name}"; unset {name}'
        elif meant or (name.startswith(f"{_OWN}_") and name not in own):
            fix = f"unset {name}"
        else:
            continue
        why = f"{meant} was probably meant" if meant else "there is no variable of this name"
        summary = f"{name} is not read by any client"
        yield Diagnosis(ENVIRONMENT, Grade.WARNING, summary, why, fix)


def _meant(name: str, own: Collection[str]) -> str:
    """Return the variable that a name resembles; empty: it is known, or resembles none."""
    prefix, _, rest = name.partition("_")
    names = {"BAO": _KNOWN, "VAULT": _KNOWN, _OWN: {one.partition("_")[2] for one in own}}
    if prefix not in names:
        near = get_close_matches(prefix, names, 1, _ALIKE_PREFIX)
        right = "BAO" if prefix == "OPENBAO" else near[0] if near else ""
        return f"{right}_{rest}" if rest in names.get(right, ()) else ""
    of_server = rest.startswith(_SERVERS_WORD) or rest.endswith(tuple(f"_{one}" for one in _KNOWN))
    if rest in names[prefix] or (of_server and prefix != _OWN):
        return ""
    if near := get_close_matches(rest, names[prefix], 1, _ALIKE):
        return f"{prefix}_{near[0]}"
    return f"BAO_{rest}" if prefix == _OWN and rest in _KNOWN else ""


def proxies(environ: Mapping[str, str], address: str) -> Iterator[Diagnosis]:
    """Yield which proxy is used for the server and for the token service.

    Args:
        environ: the process environment.
        address: the server's; empty: none is named.

    Raises:
        UsageError: the proxy of the server cannot be used.
    """
    if address.startswith("http"):
        own = client_settings.proxy(environ)
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or 443
        if own is not None:
            yield ok_finding(PROXY, f"the server is reached through {_host_of(own)}")
        elif parts.scheme == "https" and (general := proxy_for(host, port, environ)):
            yield ok_finding(PROXY, f"the server is reached through {general.host}:{general.port}")
        else:
            yield ok_finding(PROXY, "the server is reached without a proxy")
    try:
        outside = proxy_for(_SKYFLOW_HOST, 443, environ)
    except ValueError as error:
        yield Diagnosis(
            PROXY,
            Grade.BAD,
            "HTTPS_PROXY cannot be used",
            str(error),
            "export HTTPS_PROXY=http://HOST:PORT",
        )
        return
    way = f"through {outside.host}:{outside.port}" if outside else "without a proxy"
    yield ok_finding(PROXY, f"this machine asks Skyflow's token service {way}")


def _host_of(url: Secret) -> str:
    """Return a proxy's host and port, without its password."""
    parts = urlsplit(url.reveal())
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def packages(path: Sequence[str] | None = None) -> Iterator[Diagnosis]:
    """Yield whether ``import skyflow`` gives the vendor's SDK, or something that shadows it.

    Nothing is imported: another package's code must not run in a diagnosis.

    Args:
        path: where modules are searched; None: as in this process.
    """
    places = list(sys.path if path is None else path)
    sdk = _distribution(places)
    spec = PathFinder.find_spec(_SDK, places)
    found = Path(spec.origin).resolve() if spec and spec.origin else None
    if spec is None or (found is None and sdk is None):
        yield Diagnosis(
            PACKAGES,
            Grade.UNKNOWN,
            "the vendor's SDK is not installed",
            "only 'skyflowctl creds MOUNT ROLE --direct' and a comparison of doctor need it",
            f"{sys.executable} -m pip install {SDK_PINNED}",
        )
        return
    owned = sdk is not None and found is not None and found in _files(sdk)
    if owned and sdk is not None:
        yield ok_finding(PACKAGES, f"import skyflow is the vendor's SDK {sdk.version}")
        return
    where = found or spec.submodule_search_locations
    yield Diagnosis(
        PACKAGES,
        Grade.BAD,
        "import skyflow is not the vendor's SDK",
        f"another package shadows it: {where}" + ("" if sdk else "; the SDK is not installed"),
        f"move it away, then: {sys.executable} -m pip install --force-reinstall {SDK_PINNED}",
    )


def _distribution(places: Sequence[str]) -> metadata.Distribution | None:
    found = metadata.Distribution.discover(name=_SDK, path=list(places))
    return next(iter(found), None)


def _files(distribution: metadata.Distribution) -> set[Path]:
    """Return the files that a distribution installed, if none of them is another one's."""
    listed = distribution.files or ()
    return {Path(str(distribution.locate_file(one))).resolve() for one in listed}
