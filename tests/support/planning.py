"""Manifests, live states and a model of a server, for tests of plans and their execution."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from skyflowctl.credentials.model import CredentialId
from skyflowctl.errors import Problem, Where
from skyflowctl.manifest.model import (
    DeclaredCtx,
    Manifest,
    Mount,
    Plugin,
    Reference,
    Role,
    RotationRule,
)
from skyflowctl.planner.plan import Action, ActionType, ObjectKind, PlanOptions
from skyflowctl.vault.live import (
    LiveConfig,
    LiveEngine,
    LiveLoginMethod,
    LiveMount,
    LivePolicy,
    LiveRevocation,
    LiveRole,
    LiveRotation,
    LiveState,
)

HERE = Where("mounts.yaml", 1, 1)
HEADERS = {"x-skyflowctl-run": False, "application-source": False}


def role(name: str = "writer", **changes: Any) -> Role:
    """A role of the manifest."""
    basis = Role(name, f"skyflow-{name}", f"the {name}", (), DeclaredCtx(), HERE)
    return dataclasses.replace(basis, **changes)


def mount(name: str = "order", **changes: Any) -> Mount:
    """A mount of the manifest, with one role and a file reference."""
    basis = Mount(
        name=name,
        path=f"skyflow/{name}",
        description=f"{name} line",
        tags=("env:prod",),
        protect=False,
        plain_ctx=False,
        credentials=reference(name),
        rotation=RotationRule(),
        roles=(role(),),
        where=HERE,
    )
    return dataclasses.replace(basis, **changes)


def reference(name: str) -> Reference:
    """A reference to ``credentials/<name>.json``."""
    return Reference("file", (f"/nowhere/{name}.json",), f"file: credentials/{name}.json", HERE)


def manifest(*mounts: Mount, version: str | None = None) -> Manifest:
    """A manifest of these mounts (default: ``order``)."""
    return Manifest("shop", Plugin("skyflow", version), "skyflow", mounts or (mount(),))


def identity(name: str, number: int = 1) -> CredentialId:
    """The identity of a mount's n-th credential."""
    return CredentialId(f"client-{name}", f"key-{name}-{number}")


def identities(what: Manifest, number: int = 1) -> dict[str, CredentialId | None]:
    """Everybody's n-th credential."""
    return {each.name: identity(each.name, number) for each in what.mounts}


def replacing(*names: str, allow: tuple[str, ...] = ()) -> PlanOptions:
    """What ``--replace-credential`` and ``--allow-revoked-key`` ask of a plan."""
    return PlanOptions(replace_credential=frozenset(names), allow_revoked_key=frozenset(allow))


def empty_live(headers: Mapping[str, bool] | None = None) -> LiveState:
    """A server on which nobody has ever run an apply."""
    return LiveState({}, {}, {} if headers is None else headers)


def unconfigured() -> LiveConfig:
    """A fresh mount's config."""
    return LiveConfig(False, "", "", "", (), 0, 0)


def converged(what: Manifest) -> LiveState:
    """The live state that is exactly what the manifest says, with every first credential."""
    from skyflowctl.planner.diff import make_plan

    keys = identities(what)
    live = empty_live()
    return simulate(make_plan(what, live, keys).actions, live, keys)


def simulate(
    actions: tuple[Action, ...],
    live: LiveState,
    keys: Mapping[str, CredentialId | None],
) -> LiveState:
    """What a server that honours every write holds after these actions."""
    for action in actions:
        deletes = action.action is ActionType.DELETE
        live = _delete(action, live) if deletes else _STEP[action.kind](action, live, keys)
    return live


def _delete(action: Action, live: LiveState) -> LiveState:
    path, _, role_name = action.path.removeprefix("sys/mounts/").partition("/roles/")
    if action.kind is ObjectKind.MOUNT:
        mounts = {name: one for name, one in live.mounts.items() if name != path}
        engines = {name: one for name, one in live.engines.items() if name != path}
        return dataclasses.replace(live, mounts=mounts, engines=engines)
    engine = live.engines[path]
    assert engine.roles[role_name].version == action.cas
    left = {name: one for name, one in engine.roles.items() if name != role_name}
    engine = dataclasses.replace(engine, roles=left)
    return dataclasses.replace(live, engines={**live.engines, path: engine})


def _headers(action: Action, live: LiveState, keys: Any) -> LiveState:
    name = action.path.rpartition("/")[2].lower()
    known = {**(live.audited_headers or {}), name: action.body["hmac"]}
    return dataclasses.replace(live, audited_headers=known)


def _moved(action: Action, live: LiveState) -> LiveState:
    old, new = action.body["from"], action.body["to"]
    assert new not in live.mounts, "path already in use"
    there = {name: value for name, value in live.mounts.items() if name != old}
    engines = {new if path == old else path: one for path, one in live.engines.items()}
    moved = dataclasses.replace(live.mounts[old], path=new)
    return dataclasses.replace(live, mounts={**there, new: moved}, engines=engines)


def _mounts(action: Action, live: LiveState, keys: Any) -> LiveState:
    if action.action is ActionType.MOVE:
        return _moved(action, live)
    path = action.path.removeprefix("sys/mounts/").removesuffix("/tune")
    body = dict(action.body)
    engines = dict(live.engines)
    if action.action is ActionType.CREATE:
        assert path not in live.mounts, "path is already in use"
        old = LiveMount(path, body.pop("type"), "", {}, (), (), (), "", "", "")
        engines[path] = LiveEngine(unconfigured(), {})
    else:
        assert action.path.endswith("/tune")
        old = live.mounts[path]
    version = body.get("plugin_version", old.plugin_version)
    body["options"] = {**old.options, **body.get("options", {})}
    body["running_plugin_version"] = version
    new = dataclasses.replace(old, **{k: _frozen(v) for k, v in body.items()})
    return dataclasses.replace(live, mounts={**live.mounts, path: new}, engines=engines)


def _roles(action: Action, live: LiveState, keys: Any) -> LiveState:
    path, _, name = action.path.partition("/roles/")
    engine = live.engines[path]
    old = engine.roles.get(name) or LiveRole(name, (), "", (), False, "", "", 0, reuse_per="entity")
    assert action.cas in (None, old.version), "check-and-set lost"
    body = {k: _frozen(v) for k, v in action.body.items()}
    new = dataclasses.replace(old, **body, version=old.version + 1)
    engine = dataclasses.replace(engine, roles={**engine.roles, name: new})
    return dataclasses.replace(live, engines={**live.engines, path: engine})


def _config(action: Action, live: LiveState, keys: Any) -> LiveState:
    path = action.path.removesuffix("/config")
    engine = live.engines[path]
    old = engine.config
    assert action.cas in (None, old.version), "check-and-set lost"
    body = {k: _frozen(v) for k, v in action.body.items()}
    if action.needs_credential:
        new_key = keys[action.mount]
        assert new_key is not None, "no credential"
        body |= {
            "configured": True,
            "client_id": new_key.client_id,
            "key_id": new_key.key_id,
            "credential_version": old.credential_version + 1,
        }
    else:
        assert old.configured, "the first config needs a credential"
    if action.action is ActionType.REPLACE_CREDENTIAL:
        body["rotation"] = None
    new = dataclasses.replace(old, **body, version=old.version + 1)
    engine = dataclasses.replace(engine, config=new)
    return dataclasses.replace(live, engines={**live.engines, path: engine})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _policy(action: Action, live: LiveState, keys: Any) -> LiveState:
    name, known = action.path.rpartition("/")[2], live.access.policies
    version = known[name].version if name in known else 0
    assert action.body["cas"] == (version or -1), "check-and-set lost"
    new = LivePolicy(name, action.body["policy"], version + 1)
    return with_access(live, policies={name: new})


def _login_method(action: Action, live: LiveState, keys: Any) -> LiveState:
    name, known = action.path.removeprefix("sys/auth/"), live.access.login_methods
    old = known.get(name) or LiveLoginMethod(name, str(action.body.get("type")), "", {})
    options = {**old.options, **action.body.get("options", {})}
    description = action.body.get("description", old.description)
    new = LiveLoginMethod(name, old.type, description, options)
    return with_access(live, login_methods={name: new})


def _login_role(action: Action, live: LiveState, keys: Any) -> LiveState:
    old = live.access.login_roles.get(action.path, {})
    return with_access(live, objects={action.path: {**old, **action.body}})


def with_access(live: LiveState, **parts: Mapping[str, Any]) -> LiveState:
    """The live state with these policies, login methods or login roles in it."""
    merged = {name: {**getattr(live.access, name), **new} for name, new in parts.items()}
    return dataclasses.replace(live, access=dataclasses.replace(live.access, **merged))


_STEP = {
    ObjectKind.POLICY: _policy,
    ObjectKind.LOGIN_METHOD: _login_method,
    ObjectKind.LOGIN_ROLE: _login_role,
    ObjectKind.AUDITED_HEADER: _headers,
    ObjectKind.MOUNT: _mounts,
    ObjectKind.ROLE: _roles,
    ObjectKind.CONFIG: _config,
}


def with_mount(live: LiveState, path: str, **changes: Any) -> LiveState:
    """The live state with one mount's fields changed behind everybody's back."""
    new = dataclasses.replace(live.mounts[path], **changes)
    return dataclasses.replace(live, mounts={**live.mounts, path: new})


def with_config(live: LiveState, path: str, **changes: Any) -> LiveState:
    """The live state with one config's fields changed."""
    engine = live.engines[path]
    engine = dataclasses.replace(engine, config=dataclasses.replace(engine.config, **changes))
    return dataclasses.replace(live, engines={**live.engines, path: engine})


def open_rotation(from_key: str, to_key: str, **more: Any) -> LiveRotation:
    """A rotation that nobody has committed."""
    return LiveRotation(
        id=more.get("id", "run-1"),
        from_key=from_key,
        to_key=to_key,
        started="2026-11-20T08:00:00Z",
        by=more.get("by", "approle-ci"),
        state=more.get("state", "open"),
        cut_over_at=None,
        old_tokens_valid_until=None,
        keys=tuple(more.get("keys", ())),
    )


def with_history(live: LiveState, path: str, history: Mapping[int, str] | None) -> LiveState:
    """The live state with one mount's credential history known (or not kept)."""
    engine = dataclasses.replace(live.engines[path], history=history)
    return dataclasses.replace(live, engines={**live.engines, path: engine})


def with_revoked(live: LiveState, path: str, *keys: str) -> LiveState:
    """The live state in which cut-offs of one mount revoked these keys."""
    marks = {key: LiveRevocation("2026-11-20T08:00:00Z", key_id=key) for key in keys}
    engine = dataclasses.replace(live.engines[path], revoked=marks)
    return dataclasses.replace(live, engines={**live.engines, path: engine})


def with_role(live: LiveState, path: str, name: str, **changes: Any) -> LiveState:
    """The live state with one role changed, or made when it is not there."""
    engine = live.engines[path]
    old = engine.roles.get(name) or LiveRole(
        name, ("x",), "", (), False, "", "", 1, reuse_per="entity"
    )
    roles = {**engine.roles, name: dataclasses.replace(old, **changes)}
    return dataclasses.replace(
        live, engines={**live.engines, path: dataclasses.replace(engine, roles=roles)}
    )


def live_from_json(raw: Mapping[str, Any]) -> LiveState:
    """The live state that a scenario's ``live.json`` writes down; what it leaves out is empty."""
    return LiveState(
        mounts={path: _mount_from(path, each) for path, each in raw.get("mounts", {}).items()},
        engines={path: _engine_from(each) for path, each in raw.get("engines", {}).items()},
        audited_headers=raw.get("audited_headers", HEADERS),
        problems={path: Problem(**each) for path, each in raw.get("problems", {}).items()},
    )


def _mount_from(path: str, raw: Mapping[str, Any]) -> LiveMount:
    basis = LiveMount(path, "skyflow", "", {}, (), (), (), "", "", "")
    return dataclasses.replace(basis, **{k: _frozen(v) for k, v in raw.items()})


def _engine_from(raw: Mapping[str, Any]) -> LiveEngine:
    config = {k: _frozen(v) for k, v in raw.get("config", {}).items()}
    if "rotation" in config:
        config["rotation"] = open_rotation(**config["rotation"])
    roles = {
        name: dataclasses.replace(
            LiveRole(name, (), "", (), False, "", "", 1),
            **{k: _frozen(v) for k, v in each.items()},
        )
        for name, each in raw.get("roles", {}).items()
    }
    history = raw.get("history")
    past = None if history is None else {int(k): v for k, v in history.items()}
    basis = dataclasses.replace(unconfigured(), **config)
    return LiveEngine(basis, roles, past, kept=frozenset(past or ()))
