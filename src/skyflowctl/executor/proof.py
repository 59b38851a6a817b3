"""Proof that a mount serves: one mint per role with its live credential."""

from skyflowctl.errors import Problem
from skyflowctl.executor.problems import unexpected
from skyflowctl.vault.answers import VerifyReport
from skyflowctl.vault.failures import VaultError
from skyflowctl.vault.gateway import Gateway


def prove(gateway: Gateway, path: str) -> VerifyReport | Problem:
    """Return what the engine's own verification showed, or why there is none.

    An engine with the basic API has no verification; that is a problem to show, and no
    failure of the run.
    """
    try:
        return gateway.verify_config(path)
    except VaultError as error:
        return error.problems[0]
    except Exception as error:  # noqa: BLE001 - what was applied must be told of
        return unexpected(path, error).problems[0]
