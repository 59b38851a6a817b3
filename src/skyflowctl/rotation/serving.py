"""Whether a mount serves: its live credential mints for at least one role."""

from enum import Enum, auto

from skyflowctl.retry import is_transient
from skyflowctl.vault.errors import BadRequestError, NotFoundError, TokenServiceFailedError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.responses import RoleProof, VerifyReport
from skyflowctl.vault.role_tokens import role_tokens


class Serving(Enum):
    """Whether a mount serves, and why not."""

    YES = auto()
    """Or nothing else was seen."""
    NO_CREDENTIAL = auto()
    NO_ANSWER = auto()
    """The token service gave no clear answer, so nobody knows whether the key is good."""
    NO = auto()
    """The token service refuses the live credential."""


_BY_STATE = {
    "ok": Serving.YES,
    "": Serving.YES,
    "unconfigured": Serving.NO_CREDENTIAL,
    "token_service_unreachable": Serving.NO_ANSWER,
}


def serving(gateway: Gateway, path: str) -> Serving:
    """Return whether the mount mints, as far as it can be seen now."""
    try:
        proofs = gateway.verify_config(path).roles.values()
    except TokenServiceFailedError as error:
        return _of_failure(error)
    except (BadRequestError, NotFoundError) as error:
        if error.says("mount not configured"):
            return Serving.NO_CREDENTIAL
        return _of_health(gateway, path)
    except Exception:  # noqa: BLE001 - nothing was seen, and there is a first failure to tell
        return Serving.YES
    if any(proof.ok for proof in proofs):
        return Serving.YES
    return Serving.NO_ANSWER if any(map(is_inconclusive, proofs)) else Serving.NO


def serving_per_health(gateway: Gateway, path: str) -> Serving:
    """The same, and an engine is believed that was well a moment ago by its own health."""
    if _of_health(gateway, path, unknown=Serving.NO) is Serving.YES:
        return Serving.YES
    return serving(gateway, path)


def _of_health(gateway: Gateway, path: str, unknown: Serving = Serving.YES) -> Serving:
    """Ask an engine what it knows of itself; one without verification can tell no more."""
    try:
        state = gateway.health(path).state
        if state == "unproven":
            return _of_creds(gateway, path)
        return _BY_STATE.get(state, Serving.NO)
    except TokenServiceFailedError as error:
        return _of_failure(error)
    except Exception:  # noqa: BLE001 - as above
        return unknown


def _of_creds(gateway: Gateway, path: str) -> Serving:
    """Read tokens until a role gives one: the only proof that a basic engine has."""
    refused = False
    for _, token in role_tokens(gateway, path, gateway.list_roles(path)):
        if token.error is None:
            return Serving.YES
        refused = refused or isinstance(token.error, BadRequestError)
    return Serving.NO if refused else Serving.YES


def _of_failure(error: TokenServiceFailedError) -> Serving:
    return Serving.NO_ANSWER if error.transient else Serving.NO


def live_report(gateway: Gateway, path: str) -> VerifyReport | None:
    """Return what the live credential mints; None when it cannot be used at all."""
    try:
        return gateway.verify_config(path)
    except TokenServiceFailedError:
        return None


def is_inconclusive(proof: RoleProof) -> bool:
    """Whether a failed mint says nothing about the credential: the failure is transient."""
    return not proof.ok and is_transient(proof.status)


def broken_roles(gateway: Gateway, path: str) -> frozenset[str]:
    """Return the roles that may fail: the engine took the live credential although they did.

    It takes one only if every role mints that the one before could mint. A failure without
    a clear answer tells nothing, and where no role mints it is the key that is refused:
    the token service's status is 401 for both, a key and a role that it does not know.
    """
    report = live_report(gateway, path)
    proofs = report.roles if report else {}
    if not any(proof.ok for proof in proofs.values()):
        return frozenset()
    return frozenset(
        name for name, proof in proofs.items() if not proof.ok and not is_inconclusive(proof)
    )
