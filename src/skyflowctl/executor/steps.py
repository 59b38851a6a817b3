"""Executes each kind of action. Every step is idempotent."""

from collections.abc import Callable, Mapping
from typing import Any

from skyflowctl.credentials.model import Credential, CredentialSource
from skyflowctl.errors import PartlyDoneError, Problem, RefusedError, SkyflowctlError
from skyflowctl.executor.access_steps import write_access
from skyflowctl.executor.audit_device_steps import enable_device
from skyflowctl.executor.deletes import delete_object
from skyflowctl.executor.group_steps import write_group
from skyflowctl.executor.moving import move_mount
from skyflowctl.executor.object_steps import write_object
from skyflowctl.executor.ports import Replacer, Upgrader
from skyflowctl.executor.secret_steps import write_secret
from skyflowctl.executor.verify import lost_roles, minting_roles
from skyflowctl.frozen import dataclass
from skyflowctl.planner import fields
from skyflowctl.planner.plan import MOUNT_KINDS, Action, ActionType, ObjectKind
from skyflowctl.skyflow.token_uri import token_uri_refused
from skyflowctl.vault.errors import ALLOW_HOST_FIX, SilentlyIgnoredError
from skyflowctl.vault.gateway import Gateway
from skyflowctl.vault.live import SERVER_FILE, LiveMount


@dataclass(frozen=True, slots=True)
class StepContext:
    """The dependencies of an action.

    Args:
        gateway: the server.
        credentials: the source of a config's credential.
        replacer: replaces a live credential by another one.
        upgrader: upgrades a mount; None: the server is one in this process, with one node and
            nothing to go back to.
    """

    gateway: Gateway
    credentials: CredentialSource
    replacer: Replacer
    upgrader: Upgrader | None = None


_Step = Callable[[Action, StepContext], tuple[Problem, ...]]


def run_step(action: Action, tools: StepContext) -> tuple[Problem, ...]:
    """Execute one action, and return warnings besides the server's own.

    Raises:
        SkyflowctlError: the action was not done, or its outcome is unknown.
    """
    if action.action is ActionType.DELETE:
        delete_object(action, tools.gateway)
        return ()
    step = _object if action.is_by_path else _STEPS[action.kind]
    return step(action, tools)


def action_mount_path(action: Action) -> str:
    """Return the path of an action's mount; empty for a server-wide action."""
    if action.kind not in MOUNT_KINDS:
        return ""
    if action.action is ActionType.MOVE:
        return str(action.body["to"])
    if action.kind is ObjectKind.MOUNT:
        return action.path.removeprefix("sys/mounts/").removesuffix("/tune")
    if action.kind is ObjectKind.ROLE:
        return action.path.rpartition("/roles/")[0]
    return action.path.removesuffix("/config")


def server_warning(action: Action, text: str) -> Problem:
    """Return a warning that came with a successful write."""
    path = action_mount_path(action)
    who = "engine" if action.kind in {ObjectKind.ROLE, ObjectKind.CONFIG} else "server"
    return Problem(
        f"{who}-warning",
        f"{path or action.path}: {text}",
        f"the {who} took the write to {action.path}, and said this about it",
        f"the write was done; 'skyflowctl config verify {path}' tries each role"
        if who == "engine"
        else _SEE_LOG,
    )


_SEE_LOG = "see the server's log and its manual for this path"


def _audited_header(action: Action, tools: StepContext) -> tuple[Problem, ...]:
    tools.gateway.sys.put_audited_header(action.path.rpartition("/")[2], hmac=action.body["hmac"])
    return ()


def _audit_device(action: Action, tools: StepContext) -> tuple[Problem, ...]:
    enable_device(action, tools.gateway.transport)
    return ()


def _mount(action: Action, tools: StepContext) -> tuple[Problem, ...]:
    path, gateway = action_mount_path(action), tools.gateway
    if action.action is ActionType.CREATE:
        gateway.sys.enable_mount(path, action.body)
    elif action.action is ActionType.PLUGIN_UPGRADE and tools.upgrader:
        tools.upgrader.upgrade(action, gateway)
    elif action.action is ActionType.PLUGIN_UPGRADE:
        _upgrade(path, str(action.body["plugin_version"]), gateway)
    elif action.action is ActionType.MOVE:
        return move_mount(str(action.body["from"]), path, gateway)
    else:
        _refuse_if_changed(action, gateway.sys.mount(path), "after the plan was made")
        try:
            gateway.sys.tune_mount(path, action.body)
        except SilentlyIgnoredError:
            _refuse_if_changed(action, gateway.sys.mount(path), "right after this run's write")
            raise
    return ()


def _refuse_if_changed(action: Action, live: LiveMount | None, when: str) -> None:
    """Refuse to write a mount that has changed since the plan; a mount has no check-and-set.

    A field that already has the desired value was written by a run that was killed.

    Raises:
        RefusedError: a field has neither the value that the plan saw nor the desired one.
    """
    if live is None:
        return  # the write itself reports this
    now = {**fields.live_mount(live), "options.adopted": live.options.get("adopted")}
    moved = [
        change.field
        for change in action.changes
        if not fields.same(change.field, now[change.field], change.before)
        and not fields.same(change.field, now[change.field], change.after)
    ]
    if moved:
        raise RefusedError(
            f"{action_mount_path(action)} is not as the plan showed it: {', '.join(moved)}",
            why=f"another apply or a manual change wrote the mount {when}",
            fix="run the command again and look at the new plan",
            code="mount-moved",
        )


def _upgrade(path: str, version: str, gateway: Gateway) -> None:
    """Tune and reload a mount of the server in this process: a tune alone restarts nothing.

    Raises:
        PartlyDoneError: a role that minted before does not mint any more.
    """
    before = minting_roles(gateway, path)
    gateway.sys.tune_mount(path, {"plugin_version": version})
    gateway.sys.catalog.reload_mounts([path])
    live = gateway.sys.mount(path)
    running = live.running_plugin_version if live else ""
    if running != version:
        raise SkyflowctlError(
            f"{path} does not run {version} after the reload",
            why=f"the server says that it runs {running or 'nothing'}",
            fix="see the server's log; 'skyflowctl plugin list' shows versions and digests",
            code="upgrade-not-running",
        )
    _refuse_lost_roles(gateway, path, before)


def _refuse_lost_roles(gateway: Gateway, path: str, before: frozenset[str]) -> None:
    lost = lost_roles(gateway, path, before)
    if not lost:
        return
    name, why = lost[0].name, lost[0].why
    back = f"'skyflowctl plugin rollback {path}', and the version in the manifest back"
    raise PartlyDoneError(
        f"{path} runs the new version, and {len(lost)} of {len(before)} roles that minted "
        "before do not mint any more",
        why=f"role {name}: {why}" if name else why,
        fix=f"{back}; or {ALLOW_HOST_FIX}" if token_uri_refused(why) else back,
        code="upgrade-lost-roles",
    )


def _role(action: Action, tools: StepContext) -> tuple[Problem, ...]:
    name = action.path.rpartition("/")[2]
    tools.gateway.engine(action_mount_path(action)).write_role(name, action.body, cas=action.cas)
    return ()


def _config(action: Action, tools: StepContext) -> tuple[Problem, ...]:
    credential = _resolved(action, tools.credentials) if action.needs_credential else None
    if action.action is ActionType.REPLACE_CREDENTIAL:
        return _replace(action, credential, tools)
    body: Mapping[str, Any] = action.body
    if credential is not None:
        body = {**body, "credentials_json": credential.json}
    tools.gateway.engine(action_mount_path(action)).write_config(body, cas=action.cas)
    if SERVER_FILE in body:
        _check_taken(action_mount_path(action), tools.gateway)
    return ()


def _check_taken(path: str, gateway: Gateway) -> None:
    """Read back which key the engine read from the server's file."""
    live = gateway.engine(path).config()
    if not live.configured:
        raise SkyflowctlError(
            f"{path} has no credential after its server_file was written",
            why="the engine accepted the path, and its config names no key",
            fix="see the server's log; 'skyflowctl status' says what the engine lacks",
            code="server-file-not-taken",
        )


def _replace(
    action: Action, credential: Credential | None, tools: StepContext
) -> tuple[Problem, ...]:
    """Write the other fields, then the credential. After a kill, the next run plans the rest."""
    path = action_mount_path(action)
    if action.body:
        tools.gateway.engine(path).write_config(action.body, cas=action.cas)
    elif action.cas is not None and tools.gateway.engine(path).config().version != action.cas:
        raise _written_meanwhile(path)
    if credential is None:
        return tools.replacer.finish(action.mount, path, tools.gateway)
    return tools.replacer.replace(
        action.mount, path, credential, tools.gateway, allow_revoked=action.allow_revoked
    )


def _resolved(action: Action, credentials: CredentialSource) -> Credential:
    credential = credentials.resolve(action.mount)
    if credential.id != action.credential:
        raise _moved(action)
    return credential


def _written_meanwhile(path: str) -> RefusedError:
    return RefusedError(
        f"the config of {path} is another one than the plan showed",
        why="it was written after the plan was made, so its credential may be another one too",
        fix="run the command again and look at the new plan",
        code="config-moved",
    )


def _moved(action: Action) -> RefusedError:
    planned = action.credential.key_id if action.credential else "none that could be read"
    return RefusedError(
        f"the credential of {action.mount} is another one than the plan showed",
        why=f"the plan was made with key {planned}, and the reference changed since",
        fix="run the command again and look at the new plan",
        code="credential-moved",
    )


def _access(action: Action, tools: StepContext) -> tuple[Problem, ...]:
    write_access(action, tools.gateway.sys)
    return ()


def _group(action: Action, tools: StepContext) -> tuple[Problem, ...]:
    write_group(action, tools.gateway.sys)
    return ()


def _object(action: Action, tools: StepContext) -> tuple[Problem, ...]:
    write_object(action, tools.gateway.sys, tools.credentials)
    return ()


def _secret(action: Action, tools: StepContext) -> tuple[Problem, ...]:
    write_secret(action, tools.gateway.sys.access.kv, tools.credentials)
    return ()


_STEPS: Mapping[ObjectKind, _Step] = {
    ObjectKind.AUDIT_DEVICE: _audit_device,
    ObjectKind.AUDITED_HEADER: _audited_header,
    ObjectKind.MOUNT: _mount,
    ObjectKind.ROLE: _role,
    ObjectKind.CONFIG: _config,
    ObjectKind.ENGINE: _access,
    ObjectKind.SECRET: _secret,
    ObjectKind.POLICY: _access,
    ObjectKind.LOGIN_METHOD: _access,
    ObjectKind.LOGIN_ROLE: _access,
    ObjectKind.GROUP: _group,
}
