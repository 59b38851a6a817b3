"""One request to Skyflow's Management API, with three outcomes: answered, not sent, unknown.

A request that was not sent may be sent again. A request that may have arrived is sent again
only if it is idempotent.
"""

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import h11

from skyflowctl.frozen import dataclass
from skyflowctl.retry import Backoff, is_transient, retry_after
from skyflowctl.secret import Secret
from skyflowctl.skyflow.http.connect import ConnectFailedError, open_connection
from skyflowctl.skyflow.http.connection import ConnectionBrokenError, HttpAnswer
from skyflowctl.skyflow.http.proxies import proxy_for
from skyflowctl.version import __version__

_ATTEMPTS = 4
_BACKOFF = Backoff(first=0.25, longest=2.0)
_ATTEMPT_SECONDS = 10.0


class RequestNotSentError(Exception):
    """The request did not leave: no connection came about.

    Args:
        reason: why, in one line.
        transient: another try may succeed.
    """

    def __init__(self, reason: str, *, transient: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.transient = transient


class RequestLostError(Exception):
    """The request left, and no whole answer came: it may have been carried out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ManagementCall:
    """One request.

    Args:
        method: GET, POST or DELETE; none of them has a body here.
        target: path and query.
        repeatable: carrying it out twice does no harm.
    """

    method: str
    target: str
    repeatable: bool


@dataclass(frozen=True, slots=True)
class ManagementClient:
    """Sends requests to one host with one operator's token.

    Args:
        host: ``host:port``.
        operator_token: the bearer token.
        account_id: of the Skyflow account.
        environ: where the proxy variables are read.
        context: the TLS side.
        deadline: seconds for a call with all its tries.
    """

    host: str
    operator_token: Secret
    account_id: str
    environ: Mapping[str, str]
    context: ssl.SSLContext
    deadline: float

    async def ask(self, call: ManagementCall) -> HttpAnswer:
        """Return the answer to a call; try again where that is safe and can help.

        Raises:
            RequestNotSentError: every try failed before anything left.
            RequestLostError: the last try left and was not answered.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self.deadline
        for attempt in range(1, _ATTEMPTS + 1):
            pause = _BACKOFF.pause(attempt)
            last = attempt == _ATTEMPTS
            try:
                answer = await self._send(call, self._span(call, end - loop.time()))
                pause = max(pause, retry_after(answer.header(b"retry-after")) or 0.0)
                if last or not _worth_another_try(call, answer) or loop.time() + pause >= end:
                    return answer
            except RequestNotSentError as error:
                if last or not error.transient or loop.time() + pause >= end:
                    raise
            except RequestLostError:
                if last or not call.repeatable or loop.time() + pause >= end:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _span(self, call: ManagementCall, left: float) -> float:
        """Return how long one try may take: a hanging one must leave time for another."""
        return min(left, _ATTEMPT_SECONDS) if call.repeatable else left

    async def _send(self, call: ManagementCall, seconds: float) -> HttpAnswer:
        parts = urlsplit(f"https://{self.host}")
        host, port = parts.hostname or "", parts.port or 443
        sent = False
        try:
            async with asyncio.timeout(seconds):
                proxy = proxy_for(host, port, self.environ)
                connection = await open_connection(host, port, self.context, proxy)
                try:
                    sent = True
                    return await connection.send(self._request(call), b"")
                finally:
                    connection.abort()
        except ConnectFailedError as error:
            raise RequestNotSentError(error.reason, transient=error.transient) from None
        except ValueError as error:
            raise RequestNotSentError(str(error), transient=False) from None
        except ConnectionBrokenError as error:
            raise RequestLostError(f"{self.host}: {error.reason}") from None
        except TimeoutError:
            kind = RequestLostError if sent else RequestNotSentError
            raise kind(f"no answer from {self.host} within {seconds:.3g} s") from None

    def _request(self, call: ManagementCall) -> h11.Request:
        headers = [
            ("host", self.host.removesuffix(":443")),
            ("authorization", f"Bearer {self.operator_token.reveal()}"),
            ("x-skyflow-account-id", self.account_id),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
            ("user-agent", f"skyflowctl/{__version__}"),
        ]
        if call.method != "GET":
            headers.append(("content-length", "0"))
        return h11.Request(method=call.method, target=call.target, headers=headers)


def _worth_another_try(call: ManagementCall, answer: HttpAnswer) -> bool:
    return call.repeatable and is_transient(answer.status)
