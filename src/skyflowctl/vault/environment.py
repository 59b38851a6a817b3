"""The stock client's environment: every variable that ``bao`` reads, and what it means here.

Each name covers two variables: ``BAO_<name>`` and, if that is not set, its ``VAULT_`` form. A
variable that is set but not used causes a warning. Variables that only the server, the agent, a
plugin or another command of ``bao`` reads are not listed.

Help pages import this module, so it uses only named tuples and nothing heavier.
"""

from collections import namedtuple
from collections.abc import Mapping

Variable = namedtuple("Variable", "name text instead", defaults=("",))  # noqa: PYI024 - typing costs 8 ms
Variable.__doc__ = """One variable.

Args:
    name: without ``BAO_``.
    text: what it means, in one line.
    instead: it is not used here; what to do instead. Empty: it is used.
"""

VARIABLES = (
    Variable("ADDR", "the server's address"),
    Variable("AGENT_ADDR", "the address of an agent or proxy; takes precedence over BAO_ADDR"),
    Variable("TOKEN", "the token; used only with an address from the environment"),
    Variable("TOKEN_PATH", "path of the token file (else ~/.vault-token)"),
    Variable("CONFIG_PATH", "file that names token_helper (else ~/.bao)"),
    Variable("NAMESPACE", "the namespace"),
    Variable("CACERT", "a file with trusted CA certificates"),
    Variable("CACERT_BYTES", "trusted CA certificates, as PEM text"),
    Variable("CAPATH", "a folder with trusted CA certificates"),
    Variable("CLIENT_CERT", "a file with a client certificate"),
    Variable("CLIENT_KEY", "the file with its key"),
    Variable("CLIENT_CERT_BYTES", "a client certificate, as PEM text"),
    Variable("CLIENT_KEY_BYTES", "its key, as PEM text"),
    Variable("TLS_SERVER_NAME", "the expected name in the server's certificate"),
    Variable("SKIP_VERIFY", "true: do not verify the server's certificate"),
    Variable("CLIENT_TIMEOUT", "time limit for one request (default 60s)"),
    Variable("MAX_RETRIES", "retries of a failed request (default 2; 0: none)"),
    Variable("RATE_LIMIT", "requests per second, optionally with a burst: 10:20"),
    Variable("PROXY_ADDR", "a proxy for all requests to the server; ignores NO_PROXY"),
    Variable("HTTP_PROXY", "the same; BAO_PROXY_ADDR takes precedence"),
    Variable("CLI_NO_COLOR", "never use colour"),
    Variable("FORMAT", "not used", "give -o json"),
    Variable("DETAILED", "not used", "-v shows more"),
    Variable("WRAP_TTL", "not used", "give --wrap-ttl to creds"),
    Variable("SRV_LOOKUP", "not used", "name the server with its port in BAO_ADDR"),
    Variable("DISABLE_REDIRECTS", "not used", "redirects lead only to nodes that you named"),
    Variable("MFA", "not used", "log in with bao login, which asks for the second factor"),
)
_FALSE = frozenset({"0", "f", "F", "false", "False", "FALSE"})
_MEANS_NOTHING = {
    "FORMAT": frozenset({"table", "Table", "TABLE"}),
    "DETAILED": _FALSE,
    "SRV_LOOKUP": _FALSE,
    "DISABLE_REDIRECTS": _FALSE,
}


def variable(environ: Mapping[str, str], name: str) -> str | None:
    """Return ``BAO_<name>``, else ``VAULT_<name>``. An empty ``BAO_<name>`` counts as set."""
    for prefix in ("BAO_", "VAULT_"):
        if prefix + name in environ:
            return environ[prefix + name]
    return None


def named_address(environ: Mapping[str, str]) -> str:
    """Return the address that the environment names; empty if there is none."""
    return variable(environ, "AGENT_ADDR") or variable(environ, "ADDR") or ""


def set_but_not_used(environ: Mapping[str, str]) -> list[Variable]:
    """Return the variables that are set and that ``bao`` uses, but skyflowctl does not."""
    found = []
    for one in VARIABLES:
        value = variable(environ, one.name)
        if one.instead and value and value not in _MEANS_NOTHING.get(one.name, ()):
            found.append(one)
    return found


def address_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the variables that name an address; none if no address is named."""
    names = [f"{prefix}_{one}" for one in ("AGENT_ADDR", "ADDR") for prefix in ("BAO", "VAULT")]
    return [name for name in names if environ.get(name)] if named_address(environ) else []


def shown_name(environ: Mapping[str, str], name: str) -> str:
    """Return the name under which a variable is set."""
    return f"BAO_{name}" if f"BAO_{name}" in environ else f"VAULT_{name}"
