"""Executes the actions for secrets of kv engines."""

import base64
import secrets
from collections.abc import Mapping
from typing import Any

from skyflowctl.credentials.model import CredentialSource
from skyflowctl.errors import RefusedError
from skyflowctl.manifest.model import FieldSource, GeneratedText, LiveValue, Reference
from skyflowctl.planner.plan import Action
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import BadRequestError, SilentlyIgnoredError
from skyflowctl.vault.kv import KvApi
from skyflowctl.vault.live import LiveSecret


def write_secret(action: Action, api: KvApi, credentials: CredentialSource) -> None:
    """Write a secret's marks, then its fields; nothing if one of them cannot be resolved.

    Raises:
        UnresolvedReferenceError: a reference cannot be resolved.
        RefusedError: another client wrote the secret after the plan was made.
        SilentlyIgnoredError: the server accepted the write but not all of it.
        VaultError: any other failure.
    """
    body = action.body
    engine, path = body["engine"], body["path"]
    values = {
        name: resolved_value(source, f"{name} of {action.path}", credentials)
        for name, source in body["data"].items()
    }
    found = api.secret(engine, path)
    live = found or LiveSecret(0)
    if live.version != action.cas or live.deleted:
        raise _changed(action)
    if body["custom_metadata"]:
        api.mark(engine, path, body["custom_metadata"], new=found is None)
    if values:
        try:
            api.write(engine, path, values, live.version)
        except BadRequestError as error:
            if error.says("check-and-set"):
                raise _changed(action) from None
            raise
    _check_taken(action, api.secret(engine, path) or LiveSecret(0))


def resolved_value(source: FieldSource, subject: str, credentials: CredentialSource) -> Secret:
    """Return a secret field's value; ``subject`` names it in errors.

    Raises:
        UnresolvedReferenceError: the reference cannot be resolved.
    """
    if isinstance(source, Reference):
        return credentials.secret(source, subject)
    if isinstance(source, LiveValue):
        raise TypeError(f"{subject} is kept as it is, and never written")
    if isinstance(source, GeneratedText):
        return _generated(source)
    return Secret(source)


def _generated(source: GeneratedText) -> Secret:
    if source.bytes:
        return Secret(base64.urlsafe_b64encode(secrets.token_bytes(source.bytes)).decode())
    return Secret("".join(secrets.choice(source.alphabet) for _ in range(source.length)))


def _changed(action: Action) -> RefusedError:
    return RefusedError(
        f"{action.path} is not as the plan showed it: its version is another one",
        why="another apply or a manual change wrote it after the plan was made",
        fix="run the command again and look at the new plan",
        code="object-changed",
    )


def _check_taken(action: Action, live: LiveSecret) -> None:
    body: Mapping[str, Any] = action.body
    ignored = [name for name in body["data"] if name not in live.fields]
    ignored += [
        f"custom_metadata.{name}"
        for name, value in body["custom_metadata"].items()
        if live.custom_metadata.get(name) != value
    ]
    if ignored:
        raise SilentlyIgnoredError(
            f"the server accepted and ignored {', '.join(ignored)}: {action.path}",
            why="they were not there when the secret was read back",
            fix="run the command again; if it fails again, see the server's log",
            path=action.path,
        )
