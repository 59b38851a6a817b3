"""Resolves the server and the login: address, namespace and token together from one source.

The order is flags, then the environment (``BAO_*`` before ``VAULT_*``), then the current
context. A token is never sent to an address from another source, unless both were given as
flags of the same call.
"""

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from skyflowctl.errors import Problem, UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.vault import client_settings, token_files
from skyflowctl.vault.client_settings import RateLimit, go_bool
from skyflowctl.vault.contexts import ContextEntry
from skyflowctl.vault.environment import named_address, shown_name, variable
from skyflowctl.vault.namespaces import check_namespace

if TYPE_CHECKING:
    from skyflowctl.vault.held_login import HeldLogin

TargetSource = Literal["flags", "environment", "context"]
UNIX_SCHEME = "unix"


@dataclass(frozen=True, slots=True)
class TargetFlags:
    """The flags about the server; None if a flag was not given.

    ``token_file`` is a path, or ``-`` for standard input; there is no flag for a token itself.
    ``nodes`` are further addresses of the same cluster that may see the token.
    """

    address: str | None = None
    namespace: str | None = None
    token_file: str | None = None
    ca_cert: str | None = None
    ca_path: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    tls_server_name: str | None = None
    skip_verify: bool | None = None
    nodes: tuple[str, ...] = ()
    context: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A server and the login for it.

    Args:
        address: ``https://host:port``, ``http://…`` or ``unix:///path``, no trailing slash.
        namespace: empty for the root.
        token: None when the source has none.
        source: where address and token came from.
        ca_cert: a PEM file; empty: the system's roots.
        ca_path: a directory of PEM files.
        client_cert: a PEM file for mutual TLS, with ``client_key``.
        client_key: its private key's file.
        tls_server_name: the name that the server's certificate must have, if not the host.
        skip_verify: whether the server's certificate is not verified.
        nodes: further addresses of this cluster that the user named.
        ca_bytes: CA certificates as PEM text; trusted together with the other two.
        client_pem: a client certificate and its key as PEM text, if no file is named.
        max_retries: how often a failed request is sent again; None if not set.
        rate_limit: the limit of requests per second; None for no limit.
        proxy: the URL of the proxy for every request; None: HTTPS_PROXY and NO_PROXY apply.
        warnings: warnings for the user about this choice.
        login: a context's login, which keeps the token for one cluster and renews it.
    """

    address: str
    namespace: str
    token: Secret | None
    source: TargetSource
    ca_cert: str = ""
    ca_path: str = ""
    client_cert: str = ""
    client_key: str = ""
    tls_server_name: str = ""
    skip_verify: bool = False
    nodes: tuple[str, ...] = ()
    ca_bytes: str = ""
    client_pem: Secret | None = None
    max_retries: int | None = None
    rate_limit: RateLimit | None = field(default=None, repr=False, compare=False)
    proxy: Secret | None = None
    warnings: tuple[Problem, ...] = ()
    login: "HeldLogin | None" = field(default=None, repr=False, compare=False)

    def with_token(self, token: Secret) -> "Target":
        """Return this target with another login."""
        return replace(self, token=token, login=None)


def resolve_target(
    flags: TargetFlags, environ: Mapping[str, str], context: ContextEntry | None = None
) -> Target:
    """Return the one target that flags, environment and current context name.

    Reads the token's file, or runs the user's token helper, when the source needs it.

    Args:
        flags: from the command line.
        environ: the process environment.
        context: the user's current context, or the one that the flags name.

    Raises:
        UsageError: no source names a server, or the value is malformed.
    """
    source, address = _address(flags, environ, context)
    checked = check_address(address)
    named = tuple(check_address(node) for node in _nodes(source, flags, environ, context))
    settings: dict[str, Any] = _tls(source, flags, environ, context)
    _check_files(settings)
    client_pem = _client_pem(source, environ, settings)
    skip_verify = _skip_verify(source, flags, environ)
    return Target(
        address=checked,
        namespace=_namespace(source, flags, environ, context),
        token=_token(source, flags, environ, checked),
        source=source,
        skip_verify=skip_verify,
        nodes=named,
        client_pem=client_pem,
        max_retries=client_settings.max_retries(environ),
        rate_limit=client_settings.rate_limit(environ),
        proxy=client_settings.proxy(environ),
        warnings=_warnings(checked, skip_verify) + _not_used(source, flags, environ),
        **settings,
    )


# A DNS name has at most 253 characters; a port follows.
_LONGEST_HOST = 300


def check_address(address: str) -> str:
    """Return an address in canonical form.

    Raises:
        UsageError: it is no http, https or unix URL of a server, or contains a password.
    """
    if "," in address and not address.startswith(UNIX_SCHEME):
        raise UsageError(
            "the server's address cannot be used: it names several servers",
            why="one address is the first to be asked; the other nodes have an option of their own",
            fix="give one, and the others with --node or, separated by commas, in SKYFLOWCTL_NODES",
            code="bad-address",
        )
    try:
        parts = urlsplit(address.strip())
        port = parts.port
    except ValueError:
        raise _bad_address("", "its host or its port is malformed") from None
    if not address.isprintable() or len(parts.netloc) > _LONGEST_HOST:
        raise _bad_address("", "it contains invalid text, or a name longer than 300 characters")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise _bad_address("", "it contains a user name, a query or a fragment")
    if parts.scheme == UNIX_SCHEME and parts.path and not parts.netloc:
        return f"unix://{parts.path}"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _bad_address(address, "it is not a URL such as https://bao.example.com:8200")
    if parts.path.strip("/"):
        raise _bad_address(address, "it has a path; skyflowctl adds /v1 itself")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{host}" + (f":{port}" if port and port != default else "")


def _bad_address(address: str, why: str) -> UsageError:
    shown = f": {quote(address, safe=':/[].-_~%')}" if address else ""
    return UsageError(
        f"the server's address cannot be used{shown}",
        why=why,
        fix="give it as --address https://HOST:PORT, or in BAO_ADDR",
        code="bad-address",
    )


def _address(
    flags: TargetFlags, environ: Mapping[str, str], context: ContextEntry | None
) -> tuple[TargetSource, str]:
    if flags.address is not None:
        return "flags", flags.address
    if flags.context is not None and context is not None:
        return "context", context.address
    from_environment = named_address(environ)
    if from_environment:
        return "environment", from_environment
    if context is not None:
        return "context", context.address
    hidden = environ.get("BAO_ADDR") == "" and bool(environ.get("VAULT_ADDR"))
    raise UsageError(
        "no server is named",
        why="BAO_ADDR is set but empty, and takes precedence over VAULT_ADDR"
        if hidden
        else "there is no --address, BAO_ADDR or VAULT_ADDR, and no current context",
        fix="unset BAO_ADDR, or set it to the server's address"
        if hidden
        else "set BAO_ADDR, give --address or --context, or try it on a local server with --dev",
        code="no-target",
    )


def _namespace(
    source: TargetSource,
    flags: TargetFlags,
    environ: Mapping[str, str],
    context: ContextEntry | None,
) -> str:
    if flags.namespace is not None:
        return check_namespace(flags.namespace)
    if source == "environment":
        return check_namespace(variable(environ, "NAMESPACE") or "")
    return check_namespace(context.namespace) if source == "context" and context else ""


def _token(
    source: TargetSource, flags: TargetFlags, environ: Mapping[str, str], address: str
) -> Secret | None:
    """Return the token; the caller adds a context's login."""
    if flags.token_file is not None:
        return token_files.read_token_file(flags.token_file)
    if source == "environment":
        return _environment_token(environ, address)
    return None


def _environment_token(environ: Mapping[str, str], address: str) -> Secret | None:
    given = variable(environ, "TOKEN")
    if given:
        return token_files.checked_token(given, "the environment")
    return token_files.stored_token(environ, address)


def _nodes(
    source: TargetSource,
    flags: TargetFlags,
    environ: Mapping[str, str],
    context: ContextEntry | None,
) -> tuple[str, ...]:
    if flags.nodes:
        return flags.nodes
    if source == "environment":
        listed = environ.get("SKYFLOWCTL_NODES", "").split(",")
        return tuple(node.strip() for node in listed if node.strip())
    return context.nodes if source == "context" and context else ()


def _tls(
    source: TargetSource,
    flags: TargetFlags,
    environ: Mapping[str, str],
    context: ContextEntry | None,
) -> dict[str, str]:
    """Return the TLS files. A client certificate is a login and stays with its source.

    A CA is no secret: the environment's CA also applies to an address from another source
    that has no CA of its own.
    """
    inherits = source == "environment"
    if source == "context" and context is not None:
        flags = _with_context(flags, context)
    trusts = bool(flags.ca_cert) or flags.ca_path is not None
    return {
        "ca_cert": flags.ca_cert or _inherited(environ, "CACERT", None, not trusts),
        "ca_bytes": _inherited(environ, "CACERT_BYTES", None, not trusts),
        "ca_path": _inherited(environ, "CAPATH", flags.ca_path, not trusts),
        "client_cert": _inherited(environ, "CLIENT_CERT", flags.client_cert, inherits),
        "client_key": _inherited(environ, "CLIENT_KEY", flags.client_key, inherits),
        "tls_server_name": _inherited(environ, "TLS_SERVER_NAME", flags.tls_server_name, inherits),
    }


def _with_context(flags: TargetFlags, context: ContextEntry) -> TargetFlags:
    """Return the flags, with the context's TLS settings for those that were not given."""
    names = ("ca_cert", "ca_path", "client_cert", "client_key", "tls_server_name")
    own: dict[str, Any] = {
        name: getattr(context, name) or None for name in names if getattr(flags, name) is None
    }
    return replace(flags, **own)


def _client_pem(
    source: TargetSource, environ: Mapping[str, str], settings: Mapping[str, str]
) -> Secret | None:
    """Return the client certificate and key that the environment holds as text.

    As in the stock client, files take precedence.

    Raises:
        UsageError: only one of the two is set.
    """
    files = [settings["client_cert"], settings["client_key"]]
    names = ("CLIENT_CERT_BYTES", "CLIENT_KEY_BYTES") if source == "environment" else ()
    texts = [variable(environ, name) or "" for name in names]
    for given, form in ((files, ""), (texts, "_BYTES")):
        if all(given) and given:
            return None if given is files else Secret("\n".join(given))
        if any(given):
            one, other = ("certificate", "key") if given[0] else ("key", "certificate")
            raise UsageError(
                f"a client {one} is named without its {other}",
                why="the two are used together, in the same form: as files or as text",
                fix=f"set BAO_CLIENT_CERT{form} and BAO_CLIENT_KEY{form}, or neither"
                + ("" if form else "; or give --client-cert and --client-key"),
                code="bad-environment",
            )
    return None


def _check_files(settings: Mapping[str, str]) -> None:
    for name in ("ca_cert", "ca_path", "client_cert", "client_key"):
        if settings[name] and not Path(settings[name]).exists():
            raise UsageError(
                f"there is no such file: {settings[name]}",
                why=f"it is named as the connection's {name}",
                fix="correct the flag or the environment variable that names it",
                code="missing-tls-file",
            )


def _inherited(environ: Mapping[str, str], name: str, flag: str | None, inherits: bool) -> str:
    if flag is not None:
        return flag
    return (variable(environ, name) or "") if inherits else ""


def _skip_verify(source: TargetSource, flags: TargetFlags, environ: Mapping[str, str]) -> bool:
    if flags.skip_verify is not None:
        return flags.skip_verify
    text = variable(environ, "SKIP_VERIFY") if source == "environment" else None
    if not text:
        return False
    value = go_bool(text)
    if value is None:
        raise UsageError(
            f"{shown_name(environ, 'SKIP_VERIFY')} is not a boolean",
            why="the valid values are 1, t, T, true, True, TRUE, 0, f, F, false, False, FALSE",
            fix="unset it, and name the server's CA in BAO_CACERT",
        )
    return value


def _not_used(
    source: TargetSource, flags: TargetFlags, environ: Mapping[str, str]
) -> tuple[Problem, ...]:
    asks_helper = source == "environment" and flags.token_file is None
    return client_settings.not_used(environ) + (
        token_files.unused_settings(environ) if asks_helper else ()
    )


def _warnings(address: str, skip_verify: bool) -> tuple[Problem, ...]:
    found = []
    if skip_verify and address.startswith("https:"):
        found.append(
            Problem(
                "tls-not-verified",
                "the server's certificate is not checked",
                "SKIP_VERIFY or its flag is set: any server that answers gets the token",
                "name the server's CA with --ca-cert or BAO_CACERT instead",
            )
        )
    host = urlsplit(address).hostname or ""
    if address.startswith("http:") and not is_loopback(host):
        found.append(
            Problem(
                "not-encrypted",
                f"the connection to {host} is not encrypted",
                "the address begins with http://, so the token can be read in transit",
                "use https://",
            )
        )
    return tuple(found)


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address is this machine."""
    return host in {"localhost", "::1"} or host.startswith("127.")
