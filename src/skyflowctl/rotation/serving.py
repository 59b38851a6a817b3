"""Whether a mount serves: its live credential mints for at least one role."""

from skyflowctl.vault.answers import RoleProof, VerifyReport
from skyflowctl.vault.failures import BadRequest, NotFound, TokenServiceFailed, VaultError
from skyflowctl.vault.gateway import Gateway


def serves(gateway: Gateway, path: str) -> bool:
    """Return False only when it was seen that the mount mints for no role."""
    try:
        return any(proof.ok for proof in gateway.verify_config(path).roles.values())
    except TokenServiceFailed:
        return False
    except (BadRequest, NotFound) as error:
        if error.says("mount not configured"):
            return False
        return _healthy(gateway, path)
    except VaultError:
        return True


def _healthy(gateway: Gateway, path: str) -> bool:
    """Ask an engine that has no verification."""
    try:
        return gateway.health(path).state in {"ok", ""}
    except TokenServiceFailed:
        return False
    except VaultError:
        return True


def live_report(gateway: Gateway, path: str) -> VerifyReport | None:
    """Return what the live credential mints; None when it cannot be used at all."""
    try:
        return gateway.verify_config(path)
    except TokenServiceFailed:
        return None


def unclear(proof: RoleProof) -> bool:
    """Whether a failed mint says nothing about the credential: no answer, 429, 5xx."""
    return not proof.ok and (proof.status in {0, 429} or proof.status >= 500)


def broken_roles(gateway: Gateway, path: str) -> frozenset[str]:
    """Return the roles that may fail: the engine took the live credential although they did.

    It takes one only if every role mints that the one before could mint. What fails
    without a clear answer, or because the key is not known, is no such role.
    """
    report = live_report(gateway, path)
    return frozenset(
        name
        for name, proof in (report.roles if report else {}).items()
        if not proof.ok and not unclear(proof) and proof.status != 401
    )
