"""Hashes of a text as they appear in the server's audit logs; each device hashes differently."""

from collections.abc import Mapping
from urllib.parse import quote

from skyflowctl.secret import Secret
from skyflowctl.vault.errors import ForbiddenError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.namespaces import NAMESPACE_HEADER
from skyflowctl.vault.transport import Reply, Request

_AT_ROOT = {NAMESPACE_HEADER: ""}
"""Audit devices belong to the whole server, in every namespace."""


class Hasher:
    """Hashes texts as the server's audit devices do, always in the same order of devices.

    Args:
        gateway: to the server that wrote the log.

    Raises:
        VaultError: the devices cannot be listed; ``ForbiddenError`` names the policy.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.devices = tuple(sorted(self._listed()))

    def __call__(self, text: str | Secret) -> tuple[str, ...]:
        """Return the text's hash by every device; one request each.

        Raises:
            VaultError: a device does not answer; ``ForbiddenError`` names the policy.
        """
        found = (self._hash(device, text) for device in self.devices)
        return tuple(dict.fromkeys(hashed for hashed in found if hashed))

    def _listed(self) -> list[str]:
        reply = self._asked("GET", "sys/audit", '"read", "sudo"')
        found = reply.data or reply.body
        return [
            name.strip("/")
            for name, raw in found.items()
            if isinstance(raw, Mapping) and "type" in raw
        ]

    def _hash(self, device: str, text: str | Secret) -> str:
        path = f"sys/audit-hash/{quote(device)}"
        reply = self._asked("POST", path, '"update"', {"input": text})
        return str((reply.data or reply.body).get("hash") or "")

    def _asked(
        self,
        method: str,
        path: str,
        capabilities: str,
        body: Mapping[str, str | Secret] | None = None,
    ) -> Reply:
        try:
            return self._gateway.transport.send(
                Request(method, path, body=body, headers=_AT_ROOT, idempotent=True)
            )
        except ForbiddenError as error:
            raise ForbiddenError(
                f"this login may not ask for {path}",
                why=error.problems[0].why,
                fix=f'a policy that may: path "{path}" {{ capabilities = [{capabilities}] }}',
                path=path,
                status=error.status,
            ) from None
