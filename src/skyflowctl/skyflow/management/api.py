"""Skyflow's Management API: the keys of service accounts.

Written after Skyflow's public API document ("Management API 2026.04") and verified
against the emulator only; it was not run against Skyflow.

An operator token can create and delete keys, so it goes to the two hosts of Skyflow or
to one that a person named, never to one that was merely read from a mount.
"""

import asyncio
import json
import os
import re
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from skyflowctl.errors import UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.secret import Secret
from skyflowctl.skyflow.http.answers import json_object
from skyflowctl.skyflow.http.connection import HttpAnswer
from skyflowctl.skyflow.http.pool import default_context
from skyflowctl.skyflow.management.client import (
    ManagementCall,
    ManagementClient,
    RequestLostError,
    RequestNotSentError,
)
from skyflowctl.skyflow.management.errors import ManagementErrors, bad_value, no_host
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS, parse_host, token_host

MANAGEMENT_HOSTS: frozenset[str] = SKYFLOW_HOSTS
"""``host:port`` of the hosts that may see an operator token without being named."""

_DEADLINE = 30.0
# A segment of a path: no slash, and nothing that a server could read as "go up".
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]{1,8192}")


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key of a service account, as Skyflow lists it; times RFC 3339, empty: not returned."""

    key_id: str
    algorithm: str = ""
    valid_after: str = ""
    valid_before: str = ""


def host_for(token_uri: str, *, named: str = "") -> str:
    """Return ``host:port`` of the Management API that belongs to a credential.

    Args:
        token_uri: the live credential's tokenURI, as read from the mount; it can only imply one of
            Skyflow's own two hosts.
        named: the value of ``--management-host``; it overrides the tokenURI.

    Raises:
        UsageError: ``named`` is not ``HOST:PORT``.
        RefusedError: no host is named, and the tokenURI implies none of Skyflow's.
    """
    if named:
        try:
            return parse_host(named)
        except ValueError as error:
            raise UsageError(
                f"--management-host: {error}",
                why="an operator token goes to one exact host and port",
                fix="for example --management-host manage.example.com:443",
                code="management-host",
            ) from None
    try:
        host = token_host(token_uri)
    except ValueError:
        host = ""
    if host not in MANAGEMENT_HOSTS:
        raise no_host(host, " and ".join(sorted(MANAGEMENT_HOSTS)))
    return host


class ManagementApi:
    """Lists, creates and deletes keys. Each call opens a connection of its own.

    Redirects are refused. Listing and deleting are tried again when a try fails in
    passing; creating only while nothing has left this machine.

    Every call raises a :class:`skyflowctl.errors.SkyflowctlError`: NotPermittedError (401,
    403), RefusedError (404 and other refusals), UnreachableError (429, 5xx, no answer, an answer
    that is none). May be used by several threads at once, not within an event loop.

    Args:
        host: ``host:port``, from :func:`host_for` or named otherwise by a person.
        operator_token: the bearer token of one who may manage the accounts' keys.
        account_id: the Skyflow account, the header X-SKYFLOW-ACCOUNT-ID.
        environ: where the proxy variables are read; the process's own by default.
        context: gives the TLS context; the default honours SSL_CERT_FILE.
        deadline: seconds that a call may take, all its tries together.

    Raises:
        InvalidInputError: the token or the account id cannot stand in a header.
    """

    def __init__(
        self,
        host: str,
        operator_token: Secret,
        account_id: str,
        *,
        environ: Mapping[str, str] | None = None,
        context: Callable[[], ssl.SSLContext] = default_context,
        deadline: float = _DEADLINE,
    ) -> None:
        self._host = host
        self._token = _header_secret(operator_token)
        self._account_id = _header_text(account_id)
        self._environ = os.environ if environ is None else environ
        self._context = context
        self._deadline = deadline

    def list_keys(self, client_id: str) -> tuple[KeyRecord, ...]:
        """Return the keys of a service account, in Skyflow's order."""
        problems = self._problems(f"list the keys of {client_id}")
        target = f"{_keys_path(client_id)}?keyTypes=USER_MANAGED"
        answer = self._ask(ManagementCall("GET", target, repeatable=True), problems)
        listed = _records(answer)
        if listed is None:
            raise problems.unreachable(f"no list of keys: {problems.answer_words(answer)}")
        return listed

    def create_key(self, client_id: str) -> Secret:
        """Create a key and return its credentials.json, which Skyflow returns only once.

        Raises:
            UnreachableError: with the code ``key-may-exist`` when the request left and its
                answer did not arrive whole.
        """
        problems = self._problems(f"create a key for {client_id}")
        call = ManagementCall("POST", _keys_path(client_id), repeatable=False)
        try:
            answer = self._run(call)
        except RequestNotSentError as error:
            raise problems.unreachable(error.reason) from None
        except RequestLostError as error:
            raise problems.may_exist(error.reason) from None
        if _leaves_open(answer):
            raise problems.may_exist(problems.answer_words(answer))
        if answer.status >= 300:
            raise problems.refused(answer)
        return Secret(json.dumps(json_object(answer.body)))

    def delete_key(self, client_id: str, key_id: str) -> None:
        """Delete a key; a deleted key is not an error."""
        problems = self._problems(f"delete the key {key_id} of {client_id}")
        target = f"{_keys_path(client_id)}/{_segment(key_id)}"
        answer = self._run_or_raise(ManagementCall("DELETE", target, repeatable=True), problems)
        if answer.status >= 300 and answer.status != 404:
            raise problems.refused(answer)
        if answer.status == 404 or json_object(answer.body).get("keyID") != key_id:
            self._confirm_gone(client_id, key_id, problems.answer_words(answer))

    def _confirm_gone(self, client_id: str, key_id: str, said: str) -> None:
        """Look whether the key is gone: a 404 can also mean that the account is unknown."""
        if any(key.key_id == key_id for key in self.list_keys(client_id)):
            problems = self._problems(f"delete the key {key_id} of {client_id}")
            raise problems.unreachable(f"the key is listed still; {said}")

    def _ask(self, call: ManagementCall, problems: ManagementErrors) -> HttpAnswer:
        answer = self._run_or_raise(call, problems)
        if answer.status >= 300:
            raise problems.refused(answer)
        return answer

    def _run_or_raise(self, call: ManagementCall, problems: ManagementErrors) -> HttpAnswer:
        try:
            return self._run(call)
        except (RequestNotSentError, RequestLostError) as error:
            raise problems.unreachable(error.reason) from None

    def _run(self, call: ManagementCall) -> HttpAnswer:
        desk = ManagementClient(
            host=self._host,
            operator_token=self._token,
            account_id=self._account_id,
            environ=self._environ,
            context=self._context(),
            deadline=self._deadline,
        )
        return asyncio.run(desk.ask(call))

    def _problems(self, what: str) -> ManagementErrors:
        return ManagementErrors(self._host, what, self._token)


def _keys_path(client_id: str) -> str:
    return f"/v1/serviceAccounts/{_segment(client_id)}/keys"


def _segment(name: str) -> str:
    if not _ID.fullmatch(name):
        raise bad_value(
            "the id of a service account or key",
            "it has another form than Skyflow's ids, and would become part of a path",
            "look at the credential: 'skyflowctl status' shows its ids",
        )
    return quote(name, safe="")


def _header_secret(token: Secret) -> Secret:
    text = token.reveal().strip()
    if not _HEADER_VALUE.fullmatch(text):
        raise bad_value(
            "the operator token",
            "it is empty, or contains spaces or characters that a bearer token cannot have",
            "name a source that contains only the token, on one line",
        )
    return Secret(text)


def _header_text(account_id: str) -> str:
    if not _HEADER_VALUE.fullmatch(account_id):
        raise bad_value(
            "the Skyflow account id",
            "it is empty, or contains spaces or other characters that an id cannot have",
            "give it with --account-id, or as `account_id` beside `source: generate`",
        )
    return account_id


def _records(answer: HttpAnswer) -> tuple[KeyRecord, ...] | None:
    """Return the listed keys, or None if the answer is not a list of keys.

    The public document's name for the list is not at hand, so the one list that the
    answer holds is taken; an answer may leave an empty list out (JSON of protobuf).
    """
    body = json_object(answer.body)
    lists = [value for value in body.values() if isinstance(value, list)]
    if answer.truncated or (not lists and answer.body.strip() != b"{}") or len(lists) > 1:
        return None
    items = lists[0] if lists else []
    if not all(isinstance(item, dict) and _text(item, "keyID") for item in items):
        return None
    return tuple(_record(item) for item in items)


def _record(item: Mapping[str, Any]) -> KeyRecord:
    return KeyRecord(
        key_id=_text(item, "keyID"),
        algorithm=_text(item, "keyAlgorithm"),
        valid_after=_text(item, "validAfterTime"),
        valid_before=_text(item, "validBeforeTime"),
    )


def _leaves_open(answer: HttpAnswer) -> bool:
    """Tell whether a key may have been created although no credential came."""
    if answer.status < 300:
        return not _is_credential(answer)
    return answer.status == HTTPStatus.REQUEST_TIMEOUT or answer.status >= 500


def _is_credential(answer: HttpAnswer) -> bool:
    body = json_object(answer.body)
    whole = all(_text(body, name) for name in ("clientID", "keyID", "tokenURI", "privateKey"))
    return whole and not answer.truncated


def _text(item: Mapping[str, Any], name: str) -> str:
    value = item.get(name)
    return value if isinstance(value, str) else ""
