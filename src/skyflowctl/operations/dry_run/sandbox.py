"""A sandbox for dry runs: a server, the real engine and a token service in this process.

It opens no sockets, so it works without a network. The token service trusts the public half of each
manifest key with the roles of the mount. If a key is not available (an unresolved reference, or a
live key, which cannot be read back), a throw-away key replaces it, and :class:`SandboxCredentials`
records where.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import field
from functools import cache

from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.credentials.model import Credential, CredentialId, CredentialSource
from skyflowctl.engine.settings import EngineSettings
from skyflowctl.errors import InvalidInputError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.model import Manifest, Mount, Reference
from skyflowctl.secret import Secret
from skyflowctl.skyflow.emulator import InProcessTokenService
from skyflowctl.skyflow.emulator.keys import generate_key, private_pem
from skyflowctl.skyflow.service_account import ServiceAccount, load_trusted
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS, TOKEN_PATH, token_host
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import LiveConfig, LiveState
from skyflowctl.vault.memory_transport import MemoryTransport

# A host of its own: a throw-away key that mints proves nothing about the other hosts.
_TOKEN_URI = f"https://dry-run.invalid{TOKEN_PATH}"


@dataclass(frozen=True, slots=True)
class SandboxCredentials:
    """The credentials in the sandbox.

    Args:
        manifest: by mount name, the credential of the manifest's reference, or a throw-away one.
        unresolved: the cause by mount name, where the reference gave no valid credential.
        live: by mount path, the credential that replaces the server's live one.
        stand_ins: names of mounts whose live key is replaced by a throw-away one.
        invalid: by mount name, the problems of those that were read; also in ``unresolved``.
        source: resolves the references of secrets.
    """

    manifest: Mapping[str, Credential]
    unresolved: Mapping[str, str]
    live: Mapping[str, Credential]
    stand_ins: tuple[str, ...]
    invalid: Mapping[str, InvalidInputError] = field(default_factory=dict)
    source: CredentialSource | None = None

    def identify(self, mount: str, live: CredentialId | None) -> CredentialId:  # noqa: ARG002
        """Return a mount's credential id; see ``CredentialSource``."""
        return self.manifest[mount].id

    def resolve(self, mount: str) -> Credential:
        """Return a mount's credential; see ``CredentialSource``."""
        return self.manifest[mount]

    def secret(self, reference: Reference, subject: str) -> Secret:
        """Return the secret that a real apply would write, or a throw-away one.

        The plan has the warning about an unresolved one. See ``CredentialSource``.
        """
        try:
            return self.source.secret(reference, subject) if self.source else Secret("")
        except UnresolvedReferenceError:
            return Secret(f"throw-away-{secrets.token_hex(16)}")

    def prepare_apply(self) -> None:
        """Do nothing: the sandbox's token service trusts these keys from the start."""


def sandbox_credentials(
    manifest: Manifest, source: CredentialSource, live: LiveState
) -> SandboxCredentials:
    """Resolve each reference once; create throw-away keys for unavailable ones."""
    found: dict[str, Credential] = {}
    unresolved: dict[str, str] = {}
    invalid: dict[str, InvalidInputError] = {}
    for mount in manifest.mounts:
        if mount.credentials is not None:
            try:
                found[mount.name] = source.resolve(mount.name)
            except InvalidInputError as error:
                unresolved[mount.name] = error.problems[0].why or error.problems[0].summary
                if not isinstance(error, UnresolvedReferenceError):
                    invalid[mount.name] = error
                    unresolved[mount.name] = "; ".join(one.summary for one in error.problems)
                found[mount.name] = ephemeral_credential(
                    f"dry-run-{mount.name}", f"throw-away-{mount.name}"
                )
    # A live key may be available as another mount's: two of one identity would conflict.
    real = {one.id: one for one in found.values()}
    live_keys: dict[str, Credential] = {}
    stand_ins: list[str] = []
    for mount in manifest.mounts:
        engine = live.engines.get(mount.path)
        if engine and engine.config.configured:
            known = real.get(CredentialId(engine.config.client_id, engine.config.key_id))
            live_keys[mount.path] = known or _live_placeholder(engine.config, found.get(mount.name))
            if known is None:
                stand_ins.append(mount.name)
    for path, engine in live.engines.items():
        if path not in live_keys and engine.config.configured:
            live_keys[path] = _live_placeholder(engine.config, None)  # a mount to be deleted
    return SandboxCredentials(found, unresolved, live_keys, tuple(stand_ins), invalid, source)


@contextmanager
def open_sandbox(
    manifest: Manifest,
    sandboxed: SandboxCredentials,
    live: LiveState,
    hosts: AbstractSet[str] | None = None,
) -> Iterator[Gateway]:
    """Open a gateway to a server in this process that holds the live state.

    Args:
        manifest: the manifest with the roles for which the keys are trusted.
        sandboxed: the sandbox's credentials.
        live: the server's initial state; may be empty.
        hosts: the token services that the engine allows; None: those of the credentials.
    """
    service = InProcessTokenService()
    accounts = _accounts(manifest, sandboxed, live)
    roles: dict[str, set[str]] = {}
    for account, role_ids in accounts:
        # Mounts may share a service account, so its role ids are joined.
        roles.setdefault(account.client_id, set()).update(role_ids)
    for account, _ in accounts:
        service.trust(account, sorted(roles[account.client_id]))
    own = _hosts(account for account, _ in accounts)
    allowed = own if hosts is None else hosts | {token_host(_TOKEN_URI)}
    settings = EngineSettings(allowed_hosts=frozenset(allowed))
    transport = MemoryTransport(service, settings, plugin_name=manifest.plugin.name)
    gateway = Gateway(transport)
    try:
        transport.seed(live, lambda path, _config: sandboxed.live[path].json)
        if manifest.plugin.version:
            # A server would accept the manifest only with that version in its catalog.
            name = manifest.plugin.name
            gateway.sys.catalog.register(
                name, sha256="", command=name, version=manifest.plugin.version
            )
        yield gateway
    finally:
        gateway.close()


def _live_placeholder(config: LiveConfig, declared: Credential | None) -> Credential:
    """Return a replacement of the live credential, next to the one that the manifest declares."""
    uri = load_trusted(declared.json.reveal()).token_uri if declared else _TOKEN_URI
    return ephemeral_credential(config.client_id or "live-client", config.key_id or "live-key", uri)


def _accounts(
    manifest: Manifest, sandboxed: SandboxCredentials, live: LiveState
) -> list[tuple[ServiceAccount, frozenset[str]]]:
    """Return every account of the sandbox, with the role ids of its mount's roles."""
    accounts = []
    for mount in manifest.mounts:
        role_ids = _role_ids(mount, live)
        held = {sandboxed.manifest.get(mount.name), sandboxed.live.get(mount.path)}
        accounts += [(load_trusted(one.json.reveal()), role_ids) for one in held if one]
    return accounts


def _role_ids(mount: Mount, live: LiveState) -> frozenset[str]:
    """Return the manifest's role ids, and those of undeclared live roles, which stay."""
    declared = {role.name: role.role_id for role in mount.roles}
    engine = live.engines.get(mount.path)
    others = engine.roles.values() if engine else ()
    kept = {one for role in others if role.name not in declared for one in role.role_ids}
    return frozenset(declared.values()) | kept


def _hosts(accounts: Iterable[ServiceAccount]) -> frozenset[str]:
    """Return the hosts that the engine must allow; the credentials' source has checked them."""
    return SKYFLOW_HOSTS | {token_host(account.token_uri) for account in accounts}


def ephemeral_credential(client_id: str, key_id: str, token_uri: str = _TOKEN_URI) -> Credential:
    """Return a credential with the throw-away key of this process, which no account has."""
    account = ServiceAccount(
        client_id=client_id,
        client_name="throw-away key of skyflowctl",
        key_id=key_id,
        token_uri=token_uri,
        private_key=_ephemeral_key(),
    )
    return Credential(CredentialId(client_id, key_id), account.to_json())


@cache
def _ephemeral_key() -> Secret:
    """Return the one throw-away key, made once: it takes 0.1 s."""
    return private_pem(generate_key())
