"""``config/verify``: try the live credential, or a candidate, for every role."""

from skyflowctl.engine.candidate import Candidate, check_sources, read_candidate, same_content
from skyflowctl.engine.contract import EngineReply, Operation
from skyflowctl.engine.mount import EngineMount
from skyflowctl.engine.paths.config import CREDENTIAL_FIELD, FILE_FIELD
from skyflowctl.engine.routing import Call, PathOperation, Route
from skyflowctl.engine.store import Config
from skyflowctl.skyflow.minting import MintingCredential

_DESCRIPTION = """\
Mints once per role, with the role's probe ctx, and discards the tokens. For a mount without
roles, it makes one exchange without scope and reports it under an empty name. Nothing is
written, so the node that receives the request answers it; without a candidate, it uses
the credential that creds uses on that node."""


_FIELDS = (CREDENTIAL_FIELD, FILE_FIELD)


class VerifyPath:
    """Answers ``config/verify``."""

    def __init__(self, mount: EngineMount) -> None:
        self._mount = mount

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this module."""
        action = PathOperation(
            self.verify,
            "Mint once per role and return the results.",
            _FIELDS,
        )
        return (
            Route(
                "config/verify",
                "Verifies a credential.",
                _DESCRIPTION,
                {Operation.UPDATE: action},
            ),
        )

    async def verify(self, call: Call) -> EngineReply:
        """Answer, role by role, whether the credential mints.

        Raises:
            EngineError: 400, the candidate is none, or nothing is configured.
        """
        store, settings = self._mount.store, self._mount.settings
        now = self._mount.clock.now()
        check_sources(call.values, settings)
        candidate = await read_candidate(call.values, call.request.mount_point, settings, now)
        config = await store.config()
        credential = candidate.credential if candidate else config.usable()
        checks = await self._mount.verifier.check(credential, await store.roles())
        data = {
            "client_id": credential.account.client_id,
            "key_id": credential.account.key_id,
            "credential_version": _stored_version(config, credential),
            "version": config.record.version,
            "roles": {name: check.public() for name, check in checks.items()},
        }
        return EngineReply(data, _warnings(candidate))


def _stored_version(config: Config, tried: MintingCredential) -> int:
    """Return the live credential's version if that is what was tried, else 0."""
    live = config.credential
    return config.record.credential_version if live and same_content(live, tried) else 0


def _warnings(candidate: Candidate | None) -> tuple[str, ...]:
    return candidate.warnings if candidate else ()
