"""Enables audit devices, and reads them back."""

from skyflowctl.errors import PartlyDoneError, RefusedError
from skyflowctl.planner.audit_devices import is_enabled, stanza_fix
from skyflowctl.planner.plan import Action
from skyflowctl.vault.audit_devices import audit_devices, enable_audit_device, stanza
from skyflowctl.vault.errors import BadRequestError
from skyflowctl.vault.transport import Transport


def enable_device(action: Action, transport: Transport) -> None:
    """Enable a device, and see it in the server's list.

    Raises:
        PartlyDoneError: the server takes it only from its configuration, or did not add it.
        RefusedError: another device has its name since the plan was made.
        VaultError: any other failure.
    """
    before = audit_devices(transport)
    if is_enabled(action, before):
        return
    if action.path in before:
        raise RefusedError(
            f"{action.path} is not as the plan showed it: it exists now",
            why="somebody enabled another device of this name after the plan was made",
            fix="run the command again and look at the new plan",
            code="object-changed",
        )
    try:
        accepted = enable_audit_device(transport, action.path, action.body)
    except BadRequestError:
        if not is_enabled(action, audit_devices(transport)):
            raise
        return  # the reply to the first request was lost
    if not accepted or not is_enabled(action, audit_devices(transport)):
        raise PartlyDoneError(
            f"{action.path} was not enabled: it is not among the server's audit devices",
            why="the server accepted it and lists another one or none"
            if accepted
            else "its API refuses audit devices; they come from its configuration alone",
            fix=stanza_fix(stanza(action.path, action.body)),
            code="audit-device-by-configuration",
        )
