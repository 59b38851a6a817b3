"""The proof on this machine, for an engine that cannot try a candidate itself."""

import asyncio
from collections.abc import Mapping

from skyflowctl.rotation import basic_words
from skyflowctl.rotation import rotate_words as words
from skyflowctl.rotation.model import NewCredential, StepName
from skyflowctl.rotation.run import Run
from skyflowctl.rotation.serving import unclear
from skyflowctl.skyflow.minting import Minter, MintingCredential, SigningKey
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.skyflow.token_service import (
    TokenService,
    TokenServiceRefused,
    TokenServiceUnreachable,
)
from skyflowctl.vault.answers import RoleProof
from skyflowctl.vault.live import LiveRole


def prove(run: Run, new: NewCredential) -> None:
    """Mint with the candidate for every role, from here; the tokens are thrown away.

    Raises:
        Refused: a role does not mint, or nobody answers. What the live credential can do
            is not known here, so every role counts.
    """
    service = run.world.token_service
    if service is None:
        run.warn(basic_words.local_proof_left_out(run.path))
        return
    with run.step(StepName.PROVE) as found:
        roles = run.gateway.list_roles(run.path)
        proofs = asyncio.run(_mint_all(run, service, new, roles))
        for name, proof in proofs.items():
            if unclear(proof):
                raise words.no_answer(run.path, name, proof)
            if not proof.ok:
                raise words.role_lost(run.path, name, proof)
        found.detail = f"{len(proofs)} of {len(proofs)} roles mint with the new credential"


async def _mint_all(
    run: Run, service: TokenService, new: NewCredential, roles: Mapping[str, LiveRole]
) -> dict[str, RoleProof]:
    account = load_trusted(new.json.reveal())
    credential = MintingCredential(account, SigningKey.trusted(account.private_key))
    minter = Minter(service, run.world.clock, allowed_hosts=run.world.token_hosts)
    if not roles:
        return {"": await _mint(minter, credential, None)}
    return {name: await _mint(minter, credential, role) for name, role in roles.items()}


async def _mint(minter: Minter, credential: MintingCredential, role: LiveRole | None) -> RoleProof:
    scope = role.role_ids[0] if role and role.role_ids else None
    try:
        token = await minter.mint(credential, scope, (role.ctx_probe if role else "") or None)
    except TokenServiceRefused as error:
        return RoleProof(False, error.status, error.message, error.request_id, 0.0, "")
    except TokenServiceUnreachable as error:
        return RoleProof(False, 0, error.reason, "", 0.0, "")
    return RoleProof(True, 200, "", token.request_id, token.latency_ms, "")
