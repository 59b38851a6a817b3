"""Checks the server itself: whether it answers, its TLS, and how its storage is sealed."""

from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import urlsplit

from skyflowctl.clock import rfc3339
from skyflowctl.posture.facts import Certificate, Down, Facts, LiveToken, NotRead
from skyflowctl.posture.model import Check, Finding, FindingSubject, Severity
from skyflowctl.posture.text import SERVER, unchecked
from skyflowctl.text import counted, duration

_OLD_TLS = frozenset({"tls10", "tls11"})
_SOON = timedelta(days=14)
_NEAR = timedelta(days=30)
_DOWN_FIXES = {
    Down.SEALED: "unseal it (bao operator unseal, or its auto-unseal), then run the command again",
    Down.NEW: "bao operator init, unseal it, then skyflowctl apply",
    Down.SILENT: "start it, or correct the address (--address, BAO_ADDR); see its log",
}


def server_up(facts: Facts) -> Iterator[Finding]:
    """The server answers and is not sealed."""
    if facts.server.down:
        yield Finding(
            "server",
            Severity.CRITICAL,
            SERVER,
            f"nothing could be checked: {facts.server.down}",
            "until then it issues no token",
            (facts.server.address,),
            _DOWN_FIXES[facts.server.down_kind],
        )


def readable(facts: Facts) -> Iterator[Finding]:
    """All facts of every mount can be read."""
    if isinstance(facts.mounts, NotRead):
        yield unchecked("mounts", facts.mounts, core=True)
    for one in facts.ours:
        for missing in one.not_read:
            yield unchecked("mounts", missing, FindingSubject("mount", one.path), core=True)


def tls(facts: Facts) -> Iterator[Finding]:
    """The connection is encrypted, and the certificate is verified and not about to expire."""
    yield from _address(facts)
    if facts.server.skip_verify:
        yield Finding(
            "tls",
            Severity.HIGH,
            SERVER,
            "the server's certificate is not checked",
            "any server at that address gets the token",
            ("SKIP_VERIFY or --tls-skip-verify is set",),
            "export BAO_CACERT=/path/of/ca.pem; unset BAO_SKIP_VERIFY VAULT_SKIP_VERIFY",
        )
    for certificate in facts.server.certificates:
        if isinstance(certificate, NotRead):
            yield unchecked("tls", certificate)
        else:
            yield from _certificate(certificate, facts)
    yield from _listeners(facts)


def _address(facts: Facts) -> Iterator[Finding]:
    parts = urlsplit(facts.server.address)
    if parts.scheme != "http":
        return
    host = parts.hostname or ""
    local = host in {"localhost", "::1"} or host.startswith("127.")
    yield Finding(
        "tls",
        Severity.MEDIUM if local else Severity.CRITICAL,
        SERVER,
        "the connection to the server is not encrypted",
        "it stays on this machine, where other users may listen"
        if local
        else "tokens, including Skyflow's, can be read in transit",
        (facts.server.address,),
        "give the listener tls_cert_file and tls_key_file, and use https://",
    )


def _certificate(certificate: Certificate, facts: Facts) -> Iterator[Finding]:
    left = certificate.not_after - facts.now
    if left > _NEAR:
        return
    over = left <= timedelta(0)
    grade = Severity.CRITICAL if over else Severity.HIGH if left <= _SOON else Severity.MEDIUM
    yield Finding(
        "tls",
        grade,
        FindingSubject("node", certificate.address),
        f"the certificate of {certificate.address} "
        + (f"expired {duration(left)} ago" if over else f"expires in {duration(left)}"),
        "then clients that verify it get no tokens",
        (f"not valid after {rfc3339(certificate.not_after)}",),
        "install a new certificate on that node and send the server SIGHUP",
    )


def _listeners(facts: Facts) -> Iterator[Finding]:
    listeners = facts.server.listeners
    if isinstance(listeners, NotRead):
        yield unchecked("tls", listeners)
        return
    for one in listeners:
        local = one.address.startswith(("127.", "[::1]", "localhost"))
        if not one.tls and not local:
            yield Finding(
                "tls",
                Severity.HIGH,
                SERVER,
                f"the listener {one.address} has no TLS",
                "clients that use it send tokens that can be read in transit",
                (f"tls_disable = true at {one.address}",),
                "give the listener tls_cert_file and tls_key_file, or bind it to 127.0.0.1",
            )
        if one.tls and one.tls_min_version in _OLD_TLS:
            yield Finding(
                "tls",
                Severity.MEDIUM,
                SERVER,
                f"the listener {one.address} accepts an obsolete TLS version",
                "TLS before 1.2 has known weaknesses",
                (f'tls_min_version = "{one.tls_min_version}"',),
                'set tls_min_version = "tls12" or leave it out',
            )


def seal_wrap(facts: Facts) -> Iterator[Finding]:
    """Seal wrapping is really in effect, whatever the mount's flag says."""
    wrapped = [one.path for one in facts.ours if one.mount.seal_wrap]
    if facts.server.wraps_seals:
        for one in facts.ours:
            if not one.mount.seal_wrap:
                yield Finding(
                    "seal-wrap",
                    Severity.LOW,
                    FindingSubject("mount", one.path),
                    f"{one.path} is not seal wrapped",
                    "the server could encrypt its credential a second time with the seal",
                    ("sys/mounts says seal_wrap: false; the engine declares its keys",),
                    "it cannot be enabled in place: mount it again with seal_wrap, if wanted",
                )
        return
    seal = facts.server.seal_type or "unknown"
    for path in wrapped:
        yield Finding(
            "seal-wrap",
            Severity.LOW,
            FindingSubject("mount", path),
            f"{path} has seal_wrap: true, which does nothing on this server",
            "OpenBao stores the flag but has no seal wrapping; only Vault Enterprise has it",
            (f"version {facts.server.version}, seal {seal}",),
            "do not rely on it: only the server's barrier encrypts the credential",
        )
    if facts.ours and not wrapped:
        yield Finding(
            "seal-wrap",
            Severity.INFO,
            SERVER,
            "credentials are encrypted by the server's barrier; there is no seal wrapping here",
            "only Vault Enterprise encrypts a second time with the seal",
            (f"version {facts.server.version}, seal {seal}",),
        )


def root_tokens(facts: Facts) -> Iterator[Finding]:
    """No root token is alive; it may do everything, and no policy or deny limits it."""
    tokens = facts.tokens
    looked = () if isinstance(tokens, NotRead) else tokens.found
    for token in looked:
        if "root" in token.policies:
            yield _root(token)
    # The list of this namespace does not contain tokens of others.
    if "root" in (facts.own_policies or ()) and not any(token.own for token in looked):
        yield _root(LiveToken("", "this login", ("root",), "", "", own=True))
    if isinstance(tokens, NotRead):
        yield unchecked("root-tokens", tokens)
        return
    left = tokens.total - len(tokens.found)
    if left > 0:
        yield unchecked(
            "root-tokens",
            NotRead(
                "auth/token/accessors",
                why=f"{counted(tokens.total, 'token')} are alive, and {left} were not checked",
            ),
        )


def _root(token: LiveToken) -> Finding:
    own = " (this login's own)" if token.own and token.accessor else ""
    forever = f"it expires {token.expires}" if token.expires else "its expiry is not known"
    if token.accessor and not token.expires:
        forever = "it never expires"
    return Finding(
        "root-tokens",
        Severity.MEDIUM if token.expires else Severity.HIGH,
        FindingSubject("token", token.display_name or "root"),
        f"a root token is alive: {token.display_name}{own}",
        f"it may do everything, on every mount, and {forever}",
        tuple(
            line
            for line in (
                f"accessor {token.accessor}" if token.accessor else "",
                f"created by {token.created_by}" if token.created_by else "",
            )
            if line
        ),
        f"bao token revoke -accessor {token.accessor or 'ACCESSOR'}, once another login does "
        "its work; a new one can be generated with the recovery keys",
    )


CHECKS = (
    Check("server", "the server answers", "It is reachable, initialised and unsealed.", server_up),
    Check(
        "mounts",
        "every mount can be read",
        "A mount that this login may not read cannot be checked.",
        readable,
    ),
    Check(
        "tls",
        "TLS to the server",
        "The connection is encrypted; the certificate is verified and does not expire soon.",
        tls,
    ),
    Check(
        "seal-wrap",
        "seal wrapping",
        "A mount's seal_wrap flag matches what the server supports.",
        seal_wrap,
        of_mounts=True,
    ),
    Check(
        "root-tokens",
        "no live root token",
        "A root token passes every policy; none should exist after setup.",
        root_tokens,
    ),
)
