"""The results of typed calls besides the live state: frozen values parsed from replies."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from skyflowctl.clock import rfc3339
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.skyflow.bearer import read_bearer
from skyflowctl.skyflow.token_service import TokenServiceRefusedError, TokenServiceUnreachableError
from skyflowctl.skyflow.token_uri import token_uri_refused
from skyflowctl.vault.server_state import ServerState

if TYPE_CHECKING:
    from skyflowctl.skyflow.minting import MintResult  # it loads cryptography


@dataclass(frozen=True, slots=True)
class Creds:
    """A bearer token read through the server. ``ttl`` is whole seconds; ``reused`` is None if the
    role does not reuse tokens.

    Fields that the engine does not return are read from the token itself; empty or 0 if neither
    has them.
    """

    access_token: Secret
    token_type: str
    expires_at: str
    ttl: int
    key_id: str
    credential_version: int
    request_id: str
    reused: bool | None = None

    @classmethod
    def parse(cls, data: Mapping[str, Any], request_id: str) -> "Creds":
        """Return the token in the data of a reply to ``creds/<role>``."""
        token = Secret(str(data["access_token"]))
        own = read_bearer(token)
        end = own.expires_at
        left = int((end - datetime.now(UTC)).total_seconds()) if end else 0
        return cls(
            access_token=token,
            token_type=str(data.get("token_type", "Bearer")),
            expires_at=str(data.get("expires_at") or (rfc3339(end) if end else "")),
            ttl=whole(data.get("ttl")) if "ttl" in data else max(0, left),
            key_id=str(data.get("key_id") or own.key_id),
            credential_version=whole(data.get("credential_version")),
            request_id=request_id,
            reused=bool(data["reused"]) if "reused" in data else None,
        )


@dataclass(frozen=True, slots=True)
class SignedDataTokens:
    """Data tokens with their signed forms, in the order in which they were sent."""

    signed: tuple[tuple[str, Secret], ...]
    expires_at: str
    key_id: str

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "SignedDataTokens":
        """Return what the data of a reply to ``sign/<role>`` holds."""
        return cls(
            tuple(
                (str(one["data_token"]), Secret(str(one["signed_data_token"])))
                for one in data["signed_data_tokens"]
            ),
            expires_at=str(data.get("expires_at", "")),
            key_id=str(data.get("key_id", "")),
        )


@dataclass(frozen=True, slots=True)
class RoleResult:
    """Whether one role minted with a credential; ``status`` 0: no answer."""

    ok: bool
    status: int
    message: str
    request_id: str
    latency_ms: float
    expires_at: str

    @classmethod
    def of_mint(cls, result: "MintResult") -> "RoleResult":
        """Return the result of a mint from this machine."""
        if isinstance(result, TokenServiceRefusedError):
            return cls(False, result.status, result.message, result.request_id, 0.0, "")
        if isinstance(result, TokenServiceUnreachableError):
            return cls(False, 0, result.reason, "", 0.0, "")
        return cls(True, 200, "", result.request_id, result.latency_ms, "")


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of ``config/verify`` for each role. Without roles, the key "" has the result
    of the exchange without scope, if the engine reports one."""

    key_id: str
    credential_version: int
    version: int
    roles: Mapping[str, RoleResult]
    client_id: str = ""

    @property
    def ok(self) -> bool:
        """True when every role minted."""
        return all(proof.ok for proof in self.roles.values())

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "VerifyReport":
        """Return the report in the data of a reply."""
        roles = data.get("roles") or {}
        return cls(
            key_id=str(data.get("key_id", "")),
            credential_version=whole(data.get("credential_version")),
            version=whole(data.get("version")),
            roles={name: _proof(raw) for name, raw in roles.items()},
            client_id=str(data.get("client_id") or ""),
        )


def _proof(raw: Mapping[str, Any]) -> RoleResult:
    return RoleResult(
        ok=bool(raw.get("ok")),
        status=whole(raw.get("status")),
        message=str(raw.get("message") or ""),
        request_id=str(raw.get("request_id") or ""),
        latency_ms=float(raw.get("latency_ms") or 0.0),
        expires_at=str(raw.get("expires_at") or ""),
    )


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """A mount's own health answer. ``raw`` is the whole answer. ``reachable`` of the token service
    is None if the engine did not ask it, because nothing is configured, or because it has the
    basic API, which never asks. ``age_seconds`` is 0 if the result was made for this request, or
    if the engine does not return its age."""

    healthy: bool
    configuration_status: str
    key_id: str
    reachable: bool | None
    latency_ms: float | None
    status: int
    error: str
    raw: Mapping[str, Any]
    age_seconds: int = 0

    @property
    def state(self) -> str:
        """One of ok, unproven, unconfigured, refused, token_service_unreachable."""
        if "token_service" not in self.raw:
            empty = not self.healthy and (not self.error or "not configured" in self.error)
            return "unconfigured" if empty else "unproven"
        if self.healthy:
            return "ok"
        if self.reachable is None:
            return "unconfigured"
        refused = self.reachable or token_uri_refused(self.error)
        return "refused" if refused else "token_service_unreachable"

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "EngineHealth":
        """Return the health in the data of a reply."""
        service = data.get("token_service") or {}
        reachable = service.get("reachable")
        latency = service.get("latency_ms")
        return cls(
            healthy=bool(data.get("healthy")),
            configuration_status=str(data.get("configuration_status", "")),
            key_id=str(data.get("key_id") or ""),
            reachable=None if reachable is None else bool(reachable),
            latency_ms=None if latency is None else float(latency),
            status=whole(service.get("status")),
            error=str(service.get("error") or data.get("error") or ""),
            raw=data,
            age_seconds=whole(data.get("age_seconds")),
        )


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """One node's own ``sys/health``, which needs no permissions and is never forwarded.

    ``server_time`` is its clock in whole seconds since 1970; None if it does not tell it.
    ``node_id`` is its raft id or host name, if the server is configured to send one.
    """

    state: ServerState
    initialized: bool
    sealed: bool
    standby: bool
    version: str
    cluster_id: str
    cluster_name: str
    server_time: int | None = None
    node_id: str = ""


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """One node of the cluster, as its active node lists it."""

    hostname: str
    api_address: str
    active: bool
    version: str
    last_echo: str

    @property
    def name(self) -> str:
        """Its address, or its host name if it has none."""
        return self.api_address or self.hostname


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One secrets plugin of the catalog. ``version`` is empty for an unversioned one.

    ``file_missing``: the server has no such file, and returns only the file's name.
    """

    name: str
    version: str
    builtin: bool
    sha256: str
    command: str = ""
    args: tuple[str, ...] = ()
    file_missing: bool = False


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What is live after a rollback.

    Args:
        version: the config's version.
        credential_version: the version that became live.
        warnings: roles for which the restored credential cannot mint.
        old_tokens_valid_until: when the last token of the replaced credential ends; empty if
            not known.
    """

    version: int
    credential_version: int
    client_id: str
    key_id: str
    warnings: tuple[str, ...] = ()
    old_tokens_valid_until: str = ""


@dataclass(frozen=True, slots=True)
class CutOff:
    """An engine's answer to a cut-off.

    Args:
        words_kept: whether reason and run were stored; an earlier release stores neither.
        tokens_valid_until: when the last token from before ends, as stored at the first
            cut-off; empty if not returned.
    """

    words_kept: bool
    tokens_valid_until: str = ""


def whole(value: Any) -> int:
    """Return a JSON number as an int; 0 if it is absent."""
    return int(value) if value is not None and value != "" else 0
