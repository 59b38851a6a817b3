"""Proofs for an engine that can try no candidate: minted from here, and read through creds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from skyflowctl.rotation import legacy_engine_messages
from skyflowctl.rotation import messages as words
from skyflowctl.rotation.model import NewCredential, StepName
from skyflowctl.rotation.serving import is_inconclusive
from skyflowctl.rotation.session import RotationSession
from skyflowctl.skyflow.minting import mint_each
from skyflowctl.skyflow.service_account import load_trusted
from skyflowctl.skyflow.token_service import TokenService
from skyflowctl.vault.live import LiveConfig, LiveRole
from skyflowctl.vault.responses import RoleProof
from skyflowctl.vault.role_tokens import role_tokens


@dataclass(frozen=True, slots=True)
class LiveTokens:
    """What creds gives for each role, and whose tokens they are.

    Args:
        roles: every role's definition.
        failed: by role, why creds gave no token.
        key_id: the key that the tokens, or the engine, name; empty: none does.
        client_id: their service account; empty: none does.
    """

    roles: Mapping[str, LiveRole]
    failed: Mapping[str, str] = field(default_factory=dict)
    key_id: str = ""
    client_id: str = ""

    @property
    def minting(self) -> list[str]:
        """The roles that give a token."""
        return [name for name in self.roles if name not in self.failed]


def read_live(session: RotationSession, config: LiveConfig) -> LiveTokens:
    """Read a token of every role through the server, and drop it.

    Raises:
        VaultError: the server itself does not answer.
    """
    roles = session.gateway.list_roles(session.path)
    failed: dict[str, str] = {}
    key_id, client_id = config.key_id, config.client_id
    asked = roles if config.configured else {}
    for name, token in role_tokens(session.gateway, session.path, asked):
        if token.error is not None:
            failed[name] = token.why
        key_id, client_id = key_id or token.key_id, client_id or token.client_id
    return LiveTokens(roles, failed, key_id, client_id)


def prove_new(session: RotationSession, live: LiveTokens, new: NewCredential) -> None:
    """Mint with the candidate for every role, from here; the tokens are thrown away.

    Raises:
        RefusedError: a role that the live credential mints does not mint, none does, or nobody
            answers.
    """
    service = session.deps.token_service
    if service is None:
        session.warn(legacy_engine_messages.local_proof_left_out(session.path))
        return
    with session.step(StepName.PROVE) as found:
        proofs = _mint_all(session, service, new, live.roles)
        for name, proof in proofs.items():
            if is_inconclusive(proof):
                raise words.unproven_credential(session.path, name, proof)
            if proof.ok:
                continue
            if name in live.minting:
                raise words.role_lost(session.path, name, proof)
            if not any(one.ok for one in proofs.values()):
                raise words.mints_nothing(session.path, name, proof)
            session.warn(words.neither(session.path, name, proof))
        minted = sum(one.ok for one in proofs.values())
        found.detail = f"{minted} of {len(proofs)} roles mint with the new credential"


def prove_previous(session: RotationSession, live: LiveTokens, previous: NewCredential) -> None:
    """Hold the way back against what is live, and mint with it for every role that mints.

    Raises:
        RefusedError: it is another key or account than the live one, or it does not mint.
    """
    with session.step(StepName.PROVE) as found:
        if live.key_id and previous.key_id != live.key_id:
            raise legacy_engine_messages.wrong_previous(session.path, live.key_id, previous.key_id)
        if live.client_id and previous.client_id != live.client_id:
            raise legacy_engine_messages.wrong_previous(
                session.path, live.client_id, previous.client_id
            )
        if live.roles and not live.minting:
            raise legacy_engine_messages.live_gives_no_token(
                session.path, *next(iter(live.failed.items()))
            )
        if not live.key_id:
            session.warn(
                legacy_engine_messages.previous_not_compared(session.path, previous.key_id)
            )
        service = session.deps.token_service
        if service is None:
            session.warn(legacy_engine_messages.local_proof_left_out(session.path))
            return
        wanted = {name: role for name, role in live.roles.items() if name in live.minting}
        for name, proof in _mint_all(session, service, previous, wanted).items():
            if not proof.ok:
                raise legacy_engine_messages.previous_does_not_mint(session.path, name, proof)
        found.detail = f"the way back, key {previous.key_id}, mints"


def verify_live(session: RotationSession, credential: NewCredential, live: LiveTokens) -> str:
    """Have the engine give a token of every role that is to mint, made with this key.

    Returns:
        What was seen, in words.

    Raises:
        SkyflowctlError: a role gives none, or one of another key.
    """
    now = read_live(session, session.look())
    for name in live.minting:
        if why := now.failed.get(name):
            raise legacy_engine_messages.role_gives_no_token(session.path, name, why)
    if now.roles and not now.minting:
        raise legacy_engine_messages.role_gives_no_token(
            session.path, *next(iter(now.failed.items()))
        )
    if now.key_id and now.key_id != credential.key_id:
        raise legacy_engine_messages.other_key(session.path, now.key_id)
    whose = f"of key {now.key_id}" if now.key_id else "that name no key"
    return f"{len(now.minting)} of {len(now.roles)} roles give tokens {whose}"


def _mint_all(
    session: RotationSession,
    service: TokenService,
    new: NewCredential,
    roles: Mapping[str, LiveRole],
) -> dict[str, RoleProof]:
    account = load_trusted(new.json.reveal())
    scopes = {
        name: (role.role_ids[0] if role.role_ids else None, role.ctx_probe or None)
        for name, role in roles.items()
    }
    minted = mint_each(account, scopes, service, session.deps.clock, session.deps.token_hosts)
    return {name: RoleProof.of_mint(result) for name, result in minted.items()}
