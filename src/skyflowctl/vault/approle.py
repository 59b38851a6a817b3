"""Secret ids of one AppRole login role, and a login with one.

Measured on OpenBao 2.7.2: a use of a secret id lowers its count and changes its time of change
only if the count is limited; an unlimited one shows no use. One with no uses left is gone.
Destroying one ends no token that was issued with it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from skyflowctl.clock import time_or_none
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import NotFoundError, SilentlyIgnoredError, VaultError
from skyflowctl.vault.live import login_role_path
from skyflowctl.vault.transport import Reply, Request, Transport, WrapInfo

_NEVER_YEAR = 1  # the server writes the year 1 for "never"


@dataclass(frozen=True, slots=True)
class SecretIdInfo:
    """What the server tells about a secret id, by its accessor.

    Args:
        accessor: names it without revealing it.
        created: when it was issued; None if the server does not tell.
        uses_left: how many logins it still allows; None: any number.
        used: whether a login has used it; None: the server does not show it.
        cidrs: the addresses it may be used from; empty for any.
        expires: when it expires; None: never.
    """

    accessor: str
    created: datetime | None
    uses_left: int | None
    used: bool | None
    cidrs: tuple[str, ...]
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class WrappedSecretId:
    """A new secret id that the server keeps behind a single-use wrapping token."""

    accessor: str
    wrap: WrapInfo


@dataclass(frozen=True, slots=True)
class OneUseSecretId:
    """A secret id for one login."""

    accessor: str
    secret: Secret


class AppRoleApi:
    """Typed calls for one login role. Every method raises ``errors.VaultError``."""

    def __init__(self, transport: Transport, method: str, name: str) -> None:
        self._transport = transport
        self._login = f"auth/{method}/login"
        self._path = login_role_path(method, name)

    def role_id(self) -> str:
        """Return the role id, which names the login role at a login; it is no secret."""
        data = self._transport.send(Request("GET", f"{self._path}/role-id", fresh=True)).data or {}
        return str(data.get("role_id") or "")

    def issue_wrapped(
        self, wrap_ttl: str, num_uses: int | None = None, cidrs: Sequence[str] = ()
    ) -> WrappedSecretId:
        """Issue a secret id that only the wrapping token's holder sees; not sent twice.

        Args:
            wrap_ttl: how long the wrapping token is valid (``5m``).
            num_uses: how many logins it allows; None: as the login role says.
            cidrs: the addresses it may be used from; empty: as the login role says.

        Raises:
            SilentlyIgnoredError: the answer was not wrapped; the secret id was destroyed.
        """
        reply = self._issue({"num_uses": num_uses, "cidr_list": list(cidrs) or None}, wrap_ttl)
        raw = reply.body.get("wrap_info")
        if reply.wrap_info is None or not isinstance(raw, Mapping):
            self.destroy(str((reply.data or {}).get("secret_id_accessor") or ""))
            raise SilentlyIgnoredError(
                "the server did not wrap the secret id, so it was destroyed",
                why="a proxy dropped the X-Vault-Wrap-TTL header",
                fix="name the server's own address",
                path=f"{self._path}/secret-id",
            )
        return WrappedSecretId(str(raw.get("wrapped_accessor") or ""), reply.wrap_info)

    def issue_for_one_login(self, seconds: int) -> OneUseSecretId:
        """Issue a secret id that allows one login within this time."""
        data = self._issue({"num_uses": 1, "ttl": seconds}, None).data or {}
        return OneUseSecretId(str(data["secret_id_accessor"]), Secret(str(data["secret_id"])))

    def _issue(self, body: Mapping[str, Any], wrap_ttl: str | None) -> Reply:
        given = {name: value for name, value in body.items() if value is not None}
        path = f"{self._path}/secret-id"
        return self._transport.send(Request("POST", path, body=given, wrap_ttl=wrap_ttl))

    def accessors(self) -> tuple[str, ...]:
        """Return the accessor of every live secret id."""
        try:
            reply = self._transport.send(Request("LIST", f"{self._path}/secret-id", fresh=True))
        except NotFoundError as error:
            if error.empty:
                return ()
            raise
        return tuple(str(one) for one in (reply.data or {}).get("keys") or ())

    def look_up(self, accessor: str) -> SecretIdInfo | None:
        """Return a secret id's facts, or None if it does not exist."""
        path, body = f"{self._path}/secret-id-accessor/lookup", {"secret_id_accessor": accessor}
        try:
            data = self._transport.send(
                Request("POST", path, body=body, idempotent=True, fresh=True)
            ).data
        except NotFoundError:
            return None
        return _secret_id(accessor, data or {})

    def destroy(self, accessor: str) -> bool:
        """Destroy a secret id, and return whether it existed.

        Raises:
            SilentlyIgnoredError: it still exists.
        """
        if self.look_up(accessor) is None:
            return False
        path, body = f"{self._path}/secret-id-accessor/destroy", {"secret_id_accessor": accessor}
        try:
            self._transport.send(Request("POST", path, body=body, idempotent=True, fresh=True))
        except VaultError:
            # The server answers 500 for one that another request has destroyed meanwhile.
            if self.look_up(accessor) is not None:
                raise
        if self.look_up(accessor) is not None:
            raise SilentlyIgnoredError(
                f"the secret id {accessor} still exists",
                why="the server reported success",
                fix="run the same command again",
                path=path,
            )
        return True

    def log_in(self, role_id: str, secret_id: Secret) -> Secret:
        """Log in as an application does, and return the token."""
        # Revealed here, because the probe for a control group would be a failed login (500), and
        # no control group guards a login.
        body = {"role_id": role_id, "secret_id": secret_id.reveal()}
        reply = self._transport.send(Request("POST", self._login, body=body))
        auth = reply.body.get("auth") or {}
        return Secret(str(auth["client_token"]))


def _secret_id(accessor: str, raw: Mapping[str, Any]) -> SecretIdInfo:
    count = raw.get("secret_id_num_uses")
    limited = isinstance(count, int) and count > 0
    created, changed = (str(raw.get(f"{word}_time") or "") for word in ("creation", "last_updated"))
    expires = time_or_none(raw.get("expiration_time"))
    return SecretIdInfo(
        accessor,
        time_or_none(created),
        count if limited else None,
        changed != created if limited else None,
        tuple(str(one) for one in raw.get("cidr_list") or ()),
        expires if expires and expires.year > _NEVER_YEAR else None,
    )
