"""``vault``: a field of a KV secret on the server of the command."""

from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.secret import Secret
from skyflowctl.vault.errors import ForbiddenError, NotFoundError
from skyflowctl.vault.transport import Reply, Request, Transport


def read(transport: Transport, path: str, field: str) -> Secret:
    """Return a field's text, in two requests: the server tells the version of its KV engine.

    Args:
        transport: the server, with the namespace and the login of the command.
        path: the secret, as in ``bao kv get``: without ``data/``.
        field: one of its fields.

    Raises:
        UnresolvedReferenceError: there is no such secret or field, or this login may not read it.
        VaultError: the server cannot be asked.
    """
    engine = _send(transport, f"sys/internal/ui/mounts/{path}", path).data or {}
    root, options = str(engine.get("path") or ""), engine.get("options") or {}
    name = f"{path}/".removeprefix(root).rstrip("/")
    if engine.get("type") != "kv" or not name or not f"{path}/".startswith(root):
        raise UnresolvedReferenceError(
            f"{path} is not a secret of a KV engine",
            why=f"the server has {engine.get('type') or 'no engine'} at {root or path}",
            fix="name a KV secret, as in 'bao kv get'",
        )
    versioned = str(options.get("version") or "1") == "2"
    data = _send(transport, f"{root}data/{name}" if versioned else path, path).data or {}
    secret = data.get("data") if versioned else data
    return _field(secret if isinstance(secret, dict) else {}, path, field)


def _send(transport: Transport, request: str, path: str) -> Reply:
    try:
        return transport.send(Request("GET", request))
    except ForbiddenError:
        raise UnresolvedReferenceError(
            f"this login may not read {path} on the server",
            why=f"the server refused GET {request}",
            fix=f"give the login a policy with read on {request}"
            if not request.startswith("sys/")
            else f"correct the path, or give the login a policy with read on {path}",
            code="reference-forbidden",
        ) from None
    except NotFoundError:
        raise UnresolvedReferenceError(
            f"the server has no secret {path}",
            why="it was never written, or its newest version is deleted",
            fix=f"check the path; it is written as in 'bao kv get {path}', without data/",
            code="reference-missing",
        ) from None


def _field(secret: dict[str, object], path: str, field: str) -> Secret:
    value = secret.get(field)
    if value is None:
        raise UnresolvedReferenceError(
            f"the secret {path} has no field {field}",
            why="its newest version lacks it",
            fix="correct the reference's field, or write it",
            code="reference-missing",
        )
    if not isinstance(value, str):
        raise UnresolvedReferenceError(
            f"the field {field} of {path} is not text",
            why="a secret is one text; this is another JSON value",
            fix="write it as a JSON string",
        )
    if not value.strip():
        raise UnresolvedReferenceError(
            f"the field {field} of {path} is empty",
            why="it holds nothing but blanks",
            fix="write the secret into it",
            code="reference-empty",
        )
    return Secret(value)
