"""Translates between the server's protocol and the engine's contract; pure functions.

How the server turns these replies into HTTP was measured on OpenBao 2.7.2: an error in
the response data is a 400 whose text the audit log hashes, a coded error keeps its
status and text but is logged in plain, and the text of an unknown error is a 500.
"""

import json
from typing import Any

from skyflowctl.engine.contract import (
    EngineError,
    EngineReply,
    EngineRequest,
    Operation,
    StorageError,
)
from skyflowctl.plugin.messages import message_type

_HandleReply = message_type("HandleRequestReply")
_ExistenceReply = message_type("ExistenceCheckReply")
_Response = message_type("Response")
_Error = message_type("ProtoError")

# ProtoError.err_type
_UNKNOWN = 0
_CODED = 3
_UNSUPPORTED_OPERATION = 5

INTERNAL_ERROR = "skyflow: internal error in the plugin; the server's log has the place"
_OPERATIONS = frozenset(Operation)


def constant_reply(operation: str) -> Any | None:
    """Return the answer to an operation that the engine never sees, else None.

    ``resolve-path`` precedes every request and authentication: an empty answer keeps the path.
    There are no leases, so there is nothing to roll back or revoke.
    """
    if operation in ("resolve-path", "rollback", "revoke"):
        return _HandleReply()
    if operation not in _OPERATIONS:
        return _HandleReply(err=_Error(err_type=_UNSUPPORTED_OPERATION))
    return None


def to_request(message: Any) -> EngineRequest:
    """Return the contract's request.

    Raises:
        EngineError: 400, the body is no JSON object.
    """
    operation = Operation(message.operation)
    return EngineRequest(
        operation=operation,
        path=message.path.lstrip("/"),
        data=_parse_data(message.data),
        mount_point=message.mount_point,
        request_id=message.id,
        display_name=message.display_name,
        entity_id=message.entity_id,
        headers={name.lower(): tuple(header.values) for name, header in message.headers.items()},
    )


def _parse_data(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text) if text else None
    except (ValueError, RecursionError):
        raise EngineError(400, "the request's body is not a JSON object") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise EngineError(400, "the request's body is not a JSON object")
    return data


def from_reply(reply: EngineReply) -> Any:
    """Return the message of a successful answer; empty without data and warnings."""
    if reply.data is None and not reply.warnings:
        return _HandleReply()
    # ``data`` is always JSON: an empty text would be an error in the server.
    data = json.dumps(reply.data, allow_nan=False, separators=(",", ":"))
    return _HandleReply(response=_Response(data=data, warnings=reply.warnings))


def from_error(error: BaseException) -> Any:
    """Return the message of an error; it holds an exception's text only if that is intended."""
    if isinstance(error, EngineError) and error.status == 400:
        data = json.dumps({"error": error.message})
        return _HandleReply(response=_Response(data=data))
    return _HandleReply(err=_proto_error(error))


def _proto_error(error: BaseException) -> Any:
    if isinstance(error, EngineError):
        return _Error(err_type=_CODED, err_msg=_encodable(error.message), err_code=error.status)
    if isinstance(error, StorageError):
        return _Error(err_type=_UNKNOWN, err_msg=str(error))
    return _Error(err_type=_UNKNOWN, err_msg=INTERNAL_ERROR)


def _encodable(text: str) -> str:
    # A lone surrogate is possible in JSON, but not in a protobuf string.
    return text.encode("utf-8", "replace").decode("utf-8")


def from_existence(exists: bool | None) -> Any:
    """Return the message of an existence check; None means that the path has none."""
    return _ExistenceReply(check_found=exists is not None, exists=bool(exists))


def from_existence_error(error: BaseException) -> Any:
    """Return the message of a failed existence check.

    The engine refuses the same request again with its own message when it gets it; an error here
    would be a bare "internal error" for the client.
    """
    if isinstance(error, EngineError):
        return _ExistenceReply(check_found=False)
    return _ExistenceReply(err=_proto_error(error))
