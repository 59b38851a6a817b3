"""Which credential is meant, without the credential."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CredentialIdentity:
    """What tells one service-account key from another; safe to print.

    Args:
        client_id: the service account.
        key_id: its key; a token service gives no two keys the same one.
    """

    client_id: str
    key_id: str
