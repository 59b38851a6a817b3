"""Whether a mount serves: its live credential mints for at least one role."""

from enum import Enum, auto

from skyflowctl.retry import is_transient
from skyflowctl.vault.errors import BadRequestError, NotFoundError, TokenServiceFailedError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.responses import RoleResult, VerifyReport
from skyflowctl.vault.role_tokens import role_tokens


class Serving(Enum):
    """Whether a mount serves, and why not."""

    YES = auto()
    """The mount mints, or no failure was seen."""
    NO_CREDENTIAL = auto()
    NO_ANSWER = auto()
    """The token service gave no clear answer, so it is unknown whether the key is valid."""
    NO = auto()
    """The token service refuses the live credential."""


_BY_STATE = {
    "ok": Serving.YES,
    "": Serving.YES,
    "unconfigured": Serving.NO_CREDENTIAL,
    "token_service_unreachable": Serving.NO_ANSWER,
}


def serving(gateway: Gateway, path: str) -> Serving:
    """Return whether the mount mints, as far as can be determined now."""
    try:
        proofs = gateway.engine(path).verify().roles.values()
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
    """The same, but accept a recent ok of the engine's own health."""
    if _of_health(gateway, path, unknown=Serving.NO) is Serving.YES:
        return Serving.YES
    return serving(gateway, path)


def _of_health(gateway: Gateway, path: str, unknown: Serving = Serving.YES) -> Serving:
    """Read an engine's health; an engine without verification offers nothing else."""
    try:
        state = gateway.engine(path).health().state
        if state == "unproven":
            return _of_creds(gateway, path)
        return _BY_STATE.get(state, Serving.NO)
    except TokenServiceFailedError as error:
        return _of_failure(error)
    except Exception:  # noqa: BLE001 - as above
        return unknown


def _of_creds(gateway: Gateway, path: str) -> Serving:
    """Read tokens until a role gives one: the only proof on a basic engine."""
    refused = False
    for _, token in role_tokens(gateway, path, gateway.engine(path).roles()):
        if token.error is None:
            return Serving.YES
        refused = refused or isinstance(token.error, BadRequestError)
    return Serving.NO if refused else Serving.YES


def _of_failure(error: TokenServiceFailedError) -> Serving:
    return Serving.NO_ANSWER if error.transient else Serving.NO


def live_report(gateway: Gateway, path: str) -> VerifyReport | None:
    """Return what the live credential mints; None when it cannot be used at all."""
    try:
        return gateway.engine(path).verify()
    except TokenServiceFailedError:
        return None


def is_inconclusive(proof: RoleResult) -> bool:
    """Whether a failed mint says nothing about the credential: the failure is transient."""
    return not proof.ok and is_transient(proof.status)


def broken_roles(gateway: Gateway, path: str) -> frozenset[str]:
    """Return the roles that may fail: the engine accepted the live credential without them.

    It accepts a credential only if every role mints that could mint with the previous one. A
    failure without a clear answer proves nothing. If no role mints, the key itself is refused: the
    token service answers 401 both for an unknown key and for an unknown role.
    """
    report = live_report(gateway, path)
    proofs = report.roles if report else {}
    if not any(proof.ok for proof in proofs.values()):
        return frozenset()
    return frozenset(
        name for name, proof in proofs.items() if not proof.ok and not is_inconclusive(proof)
    )
