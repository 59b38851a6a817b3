"""``sign``: signs data tokens for a role. Never writes, so every node answers itself."""

from datetime import timedelta

from skyflowctl.clock import rfc3339
from skyflowctl.engine.contract import EngineError, EngineReply, Operation
from skyflowctl.engine.fields import Field, FieldType
from skyflowctl.engine.mount import EngineMount
from skyflowctl.engine.paths.creds import usable
from skyflowctl.engine.routing import Call, PathOperation, Route
from skyflowctl.skyflow.signed_data_tokens import DataTokenSigner
from skyflowctl.skyflow.threads import finished_in_thread

MAX_DATA_TOKENS = 64
_DEFAULT_TTL = 60
# A thread signs these in 3 ms. Between two parts of a long list, others have their turn.
_AT_ONCE = 8

_FIELDS = (
    Field(
        "data_tokens",
        FieldType.TEXTS,
        f"The data tokens to sign, 1 to {MAX_DATA_TOKENS}; the answer keeps order and duplicates.",
        required=True,
    ),
    Field("ctx", FieldType.CTX, "The context to bind into the signed tokens: a string or object."),
    Field(
        "ttl",
        FieldType.DURATION,
        "How long the signed tokens are valid, at most the role's sign_max_ttl. Default: 60s, "
        "or sign_max_ttl if that is shorter.",
    ),
)
_DESCRIPTION = """\
Signs data tokens with the mount's key, for accounts that accept only signed data tokens.
Every data token is signed, or none. No request is sent to Skyflow."""


class SignPath:
    """Answers ``sign/<name>``."""

    def __init__(self, mount: EngineMount) -> None:
        self._mount = mount

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this module."""
        action = PathOperation(self.sign, "Sign data tokens.", _FIELDS)
        return (
            Route(
                "sign/{name}",
                "Signed data tokens of a role.",
                _DESCRIPTION,
                {Operation.UPDATE: action},
                segment="The role's name.",
            ),
        )

    async def sign(self, call: Call) -> EngineReply:
        """Answer the data tokens, each with its signed form.

        Raises:
            EngineError: 400 for what is not configured, a broken ctx rule, or a field's value.
        """
        tokens = _checked(call.values["data_tokens"])
        config, role = await usable(self._mount, call)
        ttl = call.values.get("ttl", min(_DEFAULT_TTL, role.sign_max_ttl))
        if not 1 <= ttl <= role.sign_max_ttl:
            raise EngineError(400, f"ttl: not from 1 to {role.sign_max_ttl} seconds (sign_max_ttl)")
        now = self._mount.clock.now()
        credential, ctx = config.usable(), call.values.get("ctx")
        signer = DataTokenSigner(credential, ctx, now, timedelta(seconds=ttl))
        return EngineReply(
            {
                "signed_data_tokens": await _signed(signer, tokens),
                "expires_at": rfc3339(signer.expires_at),
                "key_id": credential.account.key_id,
            }
        )


async def _signed(signer: DataTokenSigner, tokens: tuple[str, ...]) -> list[dict[str, str]]:
    parts = [tokens[at : at + _AT_ONCE] for at in range(0, len(tokens), _AT_ONCE)]
    return [one for part in parts for one in await finished_in_thread(_part, signer, part)]


def _part(signer: DataTokenSigner, tokens: tuple[str, ...]) -> list[dict[str, str]]:
    return [
        {"data_token": token, "signed_data_token": signer.sign(token).reveal()} for token in tokens
    ]


def _checked(tokens: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(tokens) <= MAX_DATA_TOKENS:
        raise EngineError(400, f"data_tokens: not 1 to {MAX_DATA_TOKENS} entries")
    return tokens
