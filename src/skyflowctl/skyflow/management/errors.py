"""Errors of failed calls to Skyflow's Management API, for the user."""

from collections.abc import Callable

from skyflowctl.errors import (
    InvalidInputError,
    NotPermittedError,
    RefusedError,
    SkyflowctlError,
    UnreachableError,
)
from skyflowctl.frozen import dataclass
from skyflowctl.retry import TOO_MANY_REQUESTS
from skyflowctl.secret import Secret
from skyflowctl.skyflow.http.answers import one_line, redirect_reason, request_id_of, service_words
from skyflowctl.skyflow.http.connection import HttpAnswer

_NAME_UNRECORDED = (
    "run the same command again: it lists the account's keys and names those that no "
    "rotation recorded; delete such a key in Skyflow Studio"
)


@dataclass(frozen=True, slots=True)
class ManagementErrors:
    """Makes the errors of one call. None of their texts holds the operator token.

    Args:
        host: ``host:port`` that was asked.
        what: what was to be done, after "to": ``list the keys of 0a1b``.
        operator_token: masked wherever an answer repeats it.
    """

    host: str
    what: str
    operator_token: Secret

    def refused(self, answer: HttpAnswer) -> SkyflowctlError:
        """Return the error of a refusal."""
        if 300 <= answer.status < 400:
            reason = redirect_reason(answer.status, answer.header(b"location"), self._url)
            return self.unreachable(f"{self.host}: {reason}")
        why = self._why(answer)
        makers: dict[int, Callable[[str], SkyflowctlError]] = {
            401: self._unauthenticated,
            403: self._forbidden,
            404: self._unknown,
            TOO_MANY_REQUESTS: self._busy,
        }
        if answer.status in makers:
            return makers[answer.status](why)
        if answer.status >= 500:
            return self.unreachable(why)
        return RefusedError(
            f"Skyflow refused to {self.what}",
            why=why,
            fix="read the answer, which is from Skyflow",
            code="management-refused",
        )

    def unreachable(self, why: str) -> UnreachableError:
        """Return the error of a service that gives no usable answer."""
        return UnreachableError(
            f"Skyflow's Management API could not be asked to {self.what}",
            why=self._masked(why),
            fix="check the network, HTTPS_PROXY and SSL_CERT_FILE, then run the command again",
            code="management-unreachable",
        )

    def may_exist(self, why: str) -> UnreachableError:
        """Return the error of a creation that may have happened: it is never sent again."""
        return UnreachableError(
            f"a key may have been created: it is not known whether Skyflow executed: {self.what}",
            why=f"{self._masked(why)}; sent again, it could create a second key",
            fix=_NAME_UNRECORDED,
            code="key-may-exist",
        )

    def answer_words(self, answer: HttpAnswer) -> str:
        """Return an unusable answer's status and message."""
        return self._why(answer)

    def _unauthenticated(self, why: str) -> SkyflowctlError:
        return NotPermittedError(
            f"Skyflow refused the operator token, so it did not {self.what}",
            why=why,
            fix="give a valid one: --operator-token REF, or `operator_token` in the manifest",
            code="operator-token-refused",
        )

    def _forbidden(self, why: str) -> SkyflowctlError:
        return NotPermittedError(
            f"this operator may not {self.what}",
            why=why,
            fix="use the token of one who may manage this account's keys; check the account id",
            code="operator-not-permitted",
        )

    def _unknown(self, why: str) -> SkyflowctlError:
        return RefusedError(
            f"Skyflow did not {self.what}: it is not known there",
            why=why,
            fix="check the account id, and that the host is the account's own (or preview)",
            code="unknown-service-account",
        )

    def _busy(self, why: str) -> SkyflowctlError:
        return UnreachableError(
            f"Skyflow was too busy to {self.what}",
            why=why,
            fix="wait a minute, then run the command again",
            code="management-busy",
        )

    def _why(self, answer: HttpAnswer) -> str:
        # A good status with a wrong body can be a new key's, cut short: it is not shown.
        words = service_words(answer) if answer.status >= 300 else "not what was asked for"
        request_id = request_id_of(answer)
        suffix = f" (request {request_id})" if request_id else ""
        return self._masked(f"{self.host} answered {answer.status}: {words}{suffix}")

    def _masked(self, text: str) -> str:
        return one_line(text.replace(self.operator_token.reveal(), "***"))

    @property
    def _url(self) -> str:
        return f"https://{self.host}/"


def bad_value(what: str, why: str, fix: str) -> InvalidInputError:
    """Return the error of a value that cannot be sent; the value itself is not shown."""
    return InvalidInputError(f"{what} cannot be used", why=why, fix=fix, code="management-value")


def no_host(token_service: str, known: str) -> RefusedError:
    """Return the refusal to send an operator token to a host that was not named."""
    return RefusedError(
        "no management host is named for this credential",
        why=f"its token service is {token_service or 'not known'}, and an operator token goes "
        f"only to {known}, or to a host that you name",
        fix="name it: --management-host HOST:PORT",
        code="no-management-host",
    )
