"""Mints a token without the server and without this package's minter, by the vendor's SDK.

It shows whether a failure is the engine's or the token service's. So it uses none of this package's
minting code, only the checks that keep the assertion from other hosts.
"""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from importlib import import_module
from typing import Any

from skyflowctl.engine.ctx import Ctx, CtxRule, InvalidCtxError
from skyflowctl.engine.masking import mask_ctx
from skyflowctl.errors import InvalidInputError, UnhealthyError
from skyflowctl.frozen import dataclass
from skyflowctl.operations.creds import bad_ctx
from skyflowctl.secret import Secret
from skyflowctl.skyflow.minting import expiry_of
from skyflowctl.skyflow.service_account import ServiceAccount
from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS, check_token_uri

_TIMEOUT_SECONDS = 10.0
_MAX_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class DirectToken:
    """The SDK's result from the token service."""

    access_token: Secret
    token_type: str
    expires_at: datetime
    key_id: str


def mint_direct(
    account: ServiceAccount,
    role_id: str,
    ctx: Ctx | None,
    rule: CtxRule,
    *,
    allowed_hosts: AbstractSet[str] = SKYFLOW_HOSTS,
) -> DirectToken:
    """Exchange a credential with the real token service through the vendor's SDK.

    Args:
        account: the credential, linted.
        role_id: the one Skyflow role to ask for.
        ctx: checked against ``rule`` here, because no engine is involved.
        rule: the role's ctx rule.
        allowed_hosts: ``host:port`` of the token services that may get an assertion.

    Raises:
        UsageError: the ctx breaks the rule.
        InvalidInputError: the tokenURI is not allowed.
        UnhealthyError: the token service refused, redirected or did not answer.
    """
    _check(account, ctx, rule, allowed_hosts)
    options: dict[str, Any] = {"role_ids": [role_id]}
    if ctx is not None:
        options["ctx"] = ctx if isinstance(ctx, str) else dict(ctx)
    try:
        text, kind = _through_sdk(account, options)
    except Exception as error:  # noqa: BLE001 - the SDK documents none of what it raises
        raise _refused(error, ctx) from None
    token = Secret(text)
    try:
        return DirectToken(token, kind or "Bearer", expiry_of(token), account.key_id)
    except ValueError as error:
        raise UnhealthyError(
            "the token service did not return a token",
            why=str(error),
            fix="check the proxy between this machine and the token service",
        ) from None


def _check(
    account: ServiceAccount, ctx: Ctx | None, rule: CtxRule, hosts: AbstractSet[str]
) -> None:
    try:
        check_token_uri(account.token_uri, hosts)
    except ValueError as error:
        raise InvalidInputError(
            f"the credential's tokenURI {error}",
            why="an assertion is as good as the key for an hour",
            fix="use the credential as Skyflow gave it out",
            code="token-uri",
        ) from None
    try:
        rule.check(ctx)
    except InvalidCtxError as error:
        raise bad_ctx(error.reason) from None


def _through_sdk(account: ServiceAccount, options: Mapping[str, Any]) -> tuple[str, str]:
    """Let the SDK mint with a client that follows no redirect, and without its log output."""
    with warnings.catch_warnings():
        # The SDK calls datetime.utcnow, which warns from Python 3.12 on.
        warnings.simplefilter("ignore")
        sdk: Any = import_module("skyflow.service_account._utils")
        quiet = import_module("skyflow.utils.enums").LogLevel.OFF
        logger = import_module("skyflow.utils.logger").Logger(quiet)
        with _no_redirects(sdk):
            token, kind = sdk.generate_bearer_token_from_creds(
                account.to_json().reveal(), dict(options), logger
            )
    return str(token), str(kind)


@contextlib.contextmanager
def _no_redirects(sdk: Any) -> Iterator[None]:
    """Replace the SDK's HTTP client while this block runs.

    Its own client follows a 307 and posts the signed assertion again to any host. The public
    function has no parameter for the client, so the class that creates it is replaced; the SDK's
    version is pinned, and a test with a redirecting server checks this.
    """
    import httpx
    from skyflow.generated.rest.client import Skyflow
    from skyflow.utils.constants import OPTIONAL_TOKEN

    with httpx.Client(follow_redirects=False, timeout=_TIMEOUT_SECONDS) as client:

        class PinnedAuthClient:
            def __init__(self, url: str) -> None:
                self._url = url

            def get_auth_api(self) -> Any:
                made = Skyflow(base_url=self._url, token=OPTIONAL_TOKEN, httpx_client=client)
                return made.authentication

        original = sdk.AuthClient
        sdk.AuthClient = PinnedAuthClient
        try:
            yield
        finally:
            sdk.AuthClient = original


def _refused(error: BaseException, ctx: Ctx | None) -> UnhealthyError:
    """Return the service's error, which the SDK replaces by a message of its own."""
    cause = error.__context__ or error
    status = getattr(cause, "status_code", None)
    if isinstance(status, int):
        return _answered(status, cause, ctx)
    return UnhealthyError(
        "the vendor's SDK got no token",
        why=f"{type(cause).__name__}: no usable answer from the token service",
        fix="check the network, the proxy and SSL_CERT_FILE; then Skyflow's status page",
        code="token-service-unreachable",
    )


def _answered(status: int, cause: BaseException, ctx: Ctx | None) -> UnhealthyError:
    if 300 <= status < 400:
        return UnhealthyError(
            f"the token service answered {status}, a redirect, which was not followed",
            why="a token service never redirects; something between here and it does",
            fix="check the proxy and the name resolution of the tokenURI's host",
            code="redirect-refused",
        )
    headers = {str(k).lower(): str(v) for k, v in (getattr(cause, "headers", None) or {}).items()}
    request_id = headers.get("x-request-id", "")
    why = _message(getattr(cause, "body", None), ctx)
    return UnhealthyError(
        f"the token service refused the credential or the role: status {status}",
        why=why + (f" (request id {request_id})" if request_id else ""),
        fix="the engine and the server are not involved: check the key and its roles",
        code="token-service-refused",
    )


def _message(body: Any, ctx: Ctx | None) -> str:
    error = body.get("error") if isinstance(body, Mapping) else None
    inner = error.get("message") if isinstance(error, Mapping) else error
    text = " ".join(str(inner or body or "no message").split())
    return mask_ctx(text, ctx)[:_MAX_MESSAGE]
