"""How each kind of action is carried out. Every step may be repeated without harm."""

from collections.abc import Callable, Mapping
from typing import Any

from skyflowctl.errors import Refused, SkyflowctlError
from skyflowctl.executor.ports import CredentialSource
from skyflowctl.planner.plan import Action, ActionType, Kind
from skyflowctl.vault.gateway import Gateway

_Step = Callable[[Action, Gateway, CredentialSource], None]


def carry_out(action: Action, gateway: Gateway, credentials: CredentialSource) -> None:
    """Do one action.

    Raises:
        SkyflowctlError: it is not done, or nobody can tell.
    """
    _STEPS[action.kind](action, gateway, credentials)


def mount_path(action: Action) -> str:
    """Return the path of the mount that an action is about; empty for a server-wide one."""
    if action.kind is Kind.AUDITED_HEADER:
        return ""
    if action.kind is Kind.MOUNT:
        return action.path.removeprefix("sys/mounts/").removesuffix("/tune")
    if action.kind is Kind.ROLE:
        return action.path.rpartition("/roles/")[0]
    return action.path.removesuffix("/config")


def _audited_header(action: Action, gateway: Gateway, _credentials: CredentialSource) -> None:
    gateway.put_audited_header(action.path.rpartition("/")[2], hmac=action.body["hmac"])


def _mount(action: Action, gateway: Gateway, _credentials: CredentialSource) -> None:
    path = mount_path(action)
    if action.action is ActionType.CREATE:
        gateway.enable_mount(path, action.body)
    elif action.action is ActionType.PLUGIN_UPGRADE:
        _upgrade(path, str(action.body["plugin_version"]), gateway)
    else:
        gateway.tune_mount(path, action.body)


def _upgrade(path: str, version: str, gateway: Gateway) -> None:
    """Tuning alone changes nothing: the old process runs on until it is reloaded."""
    gateway.tune_mount(path, {"plugin_version": version})
    gateway.catalog.reload_mounts([path])
    live = gateway.read_mount(path)
    running = live.running_plugin_version if live else ""
    if running != version:
        raise SkyflowctlError(
            f"{path} does not run {version} after the reload",
            why=f"the server says that it runs {running or 'nothing'}",
            fix="see the server's log; 'skyflowctl plugin list' shows versions and digests",
            code="upgrade-not-running",
        )


def _role(action: Action, gateway: Gateway, _credentials: CredentialSource) -> None:
    name = action.path.rpartition("/")[2]
    gateway.write_role(mount_path(action), name, action.body, cas=action.cas)


def _config(action: Action, gateway: Gateway, credentials: CredentialSource) -> None:
    body: Mapping[str, Any] = action.body
    if action.needs_credential:
        credential = credentials.resolve(action.mount)
        if credential.identity != action.credential:
            raise _moved(action)
        body = {**body, "credentials_json": credential.json}
    gateway.write_config(mount_path(action), body, cas=action.cas)


def _moved(action: Action) -> Refused:
    planned = action.credential.key_id if action.credential else "none that could be read"
    return Refused(
        f"the credential of {action.mount} is another one than the plan showed",
        why=f"the plan was made with key {planned}, and the reference changed since",
        fix="run the command again and look at the new plan",
        code="credential-moved",
    )


_STEPS: Mapping[Kind, _Step] = {
    Kind.AUDITED_HEADER: _audited_header,
    Kind.MOUNT: _mount,
    Kind.ROLE: _role,
    Kind.CONFIG: _config,
}
