"""The client of the emulator's control API; the tests have the rest of the API.

It imports neither the emulator nor what starts it: a plan on the dev stack needs only this.
"""

import contextlib
import http.client
import json
import ssl
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from skyflowctl.clock import rfc3339
from skyflowctl.devstack.layout import DevLayout
from skyflowctl.devstack.state import Part
from skyflowctl.errors import UnhealthyError
from skyflowctl.private_files import read_private
from skyflowctl.secret import Secret

_TIMEOUT = 30.0


class EmulatorControlError(Exception):
    """The emulator refused a control request.

    Args:
        status: the HTTP status.
        message: its text.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} (status {status})")
        self.status = status
        self.message = message


class EmulatorControl:
    """Controls a running emulator, one connection a call.

    Every method raises :class:`EmulatorControlError` when the emulator refuses, and
    OSError when it does not answer.

    Args:
        url: its address, ``https://127.0.0.1:PORT``.
        token: the control token, the content of ``control-token`` in its state folder.
        ca: PEM file with the CA of its certificate.
    """

    def __init__(self, url: str, token: Secret, ca: Path) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._token = token
        self._context = ssl.create_default_context(cafile=str(ca))

    def put_account(
        self,
        client_id: str,
        *,
        name: str = "",
        role_ids: Iterable[str] = (),
        enforce_ctx: bool = False,
    ) -> None:
        """Create an account, or replace its name, roles and ctx rule; its keys stay."""
        body = {"name": name, "role_ids": list(role_ids), "enforce_ctx": enforce_ctx}
        self._call("PUT", ("accounts", client_id), body)

    def account(self, client_id: str) -> dict[str, Any]:
        """Return an account with the public halves of its keys."""
        return self._call("GET", ("accounts", client_id))

    def create_key(
        self,
        client_id: str,
        *,
        valid_after: datetime | None = None,
        valid_before: datetime | None = None,
    ) -> Secret:
        """Make a key and return the whole credentials.json; valid for a year from now.

        The emulator keeps the public half alone, so this is the only copy.
        """
        body = _validity(valid_after, valid_before)
        return Secret(json.dumps(self._call("POST", ("accounts", client_id, "keys"), body)))

    def counters(self) -> dict[str, int]:
        """Return the fields of :class:`~.state.Counters`."""
        return self._call("GET", ("counters",))

    def management(self) -> dict[str, Any]:
        """Return what the Management API demands; the operator's token as SHA-256 (hex)."""
        return self._call("GET", ("management",))

    def _call(
        self, method: str, path: tuple[str, ...], body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=_TIMEOUT, context=self._context
        )
        target = "/_emu/" + "/".join(quote(segment, safe="") for segment in path)
        headers = {"authorization": f"Bearer {self._token.reveal()}"}
        raw = None if body is None else json.dumps(body)
        try:
            connection.request(method, target, body=raw, headers=headers)
            reply = connection.getresponse()
            answer: dict[str, Any] = json.loads(reply.read())
        except (http.client.HTTPException, ValueError) as error:
            raise ConnectionError(f"{self._host}:{self._port} is not an emulator") from error
        finally:
            connection.close()
        if reply.status != 200:
            message = answer.get("error", {}).get("message", "no message")
            raise EmulatorControlError(reply.status, message)
        return answer


def _validity(valid_after: datetime | None, valid_before: datetime | None) -> dict[str, str]:
    given = {"valid_after": valid_after, "valid_before": valid_before}
    return {name: rfc3339(moment) for name, moment in given.items() if moment is not None}


def control(layout: DevLayout, part: Part) -> EmulatorControl:
    """Return the client of its control API.

    Raises:
        OSError: the emulator has not written its control token yet.
    """
    token = Secret(read_private(layout.emulator / "control-token").strip())
    return EmulatorControl(part.address, token, layout.ca)


@contextlib.contextmanager
def failures_said() -> Iterator[None]:
    """Turn a failure to reach the emulator into an error with a fix.

    Raises:
        UnhealthyError: the emulator does not answer, or refuses.
    """
    try:
        yield
    except (OSError, EmulatorControlError) as error:
        raise UnhealthyError(
            "the dev stack's emulator does not answer",
            why=str(error),
            fix="start it again with 'skyflowctl dev up'",
            code="dev-emulator",
        ) from error
