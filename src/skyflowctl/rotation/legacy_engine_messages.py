"""What is said of engines with the basic API."""

from skyflowctl.errors import Problem, RefusedError, SkyflowctlError
from skyflowctl.vault.responses import RoleProof


def no_way_back(path: str) -> RefusedError:
    """Nobody named one, and the engine keeps none."""
    return RefusedError(
        f"there would be no way back: {path}",
        why="this engine has no history and no check-and-set, so it keeps no earlier credential",
        fix="name the live credential with --previous REF, or accept it with --no-rollback",
        code="no-way-back",
    )


def cannot_prove_file(path: str) -> RefusedError:
    """The key in the file is told to nobody, so it cannot be tried out before it is live."""
    return RefusedError(
        f"a server_file is not rotated to on this engine: {path}",
        why="it has no config/verify, so nobody can tell which key the file holds or if it mints",
        fix=f"name the key itself: 'skyflowctl rotate {path} --credentials REF'",
        code="cannot-prove-file",
    )


def cannot_generate(path: str) -> RefusedError:
    """A created key would be lost if the run were killed."""
    return RefusedError(
        f"no key is created for this engine: {path}",
        why="it cannot record which key a rotation created, so a killed run would lose one",
        fix="create the key in Skyflow Studio, then name it: "
        f"'skyflowctl rotate {path} --credentials REF'",
        code="cannot-generate",
    )


def no_history(path: str) -> RefusedError:
    """There is nothing to go back to."""
    return RefusedError(
        f"this engine keeps no earlier credential: {path}",
        why="it has no history and no rollback",
        fix=f"write the one that you want with 'skyflowctl rotate {path} --credentials REF'",
        code="no-history",
    )


def wrong_previous(path: str, live: str, previous: str) -> RefusedError:
    """What was named as the way back is not what is live."""
    return RefusedError(
        f"the way back is not what is live: {path}",
        why=f"--previous holds key {previous}, and key {live} is live",
        fix="name the credential that is live now",
        code="wrong-previous",
    )


def already_live_by_reference(path: str, key_id: str) -> RefusedError:
    """The reference holds the key that is live."""
    return RefusedError(
        f"nothing to rotate to: {path}",
        why=f"the reference holds key {key_id}, which is live already",
        fix="put a new key behind the reference, or name one with "
        f"'skyflowctl rotate {path} --credentials REF --previous REF'",
        code="unchanged-credential",
    )


def live_gives_no_token(path: str, role: str, why: str) -> RefusedError:
    """What is live cannot be told from a token, so the way back is not known to be one."""
    return RefusedError(
        f"the live credential gives no token, so --previous is no proved way back: {path}",
        why=f"role {role}: {why}",
        fix="fix that, or leave out --previous and accept it with --no-rollback",
        code="live-gives-no-token",
    )


def previous_does_not_mint(path: str, role: str, proof: RoleProof) -> RefusedError:
    """The way back would lead nowhere."""
    said = f"{proof.status} {proof.message}".strip() if proof.status else proof.message
    about = f"role {role}" if role else "an exchange without a role"
    return RefusedError(
        f"the way back does not mint: {path}",
        why=f"with the credential of --previous the token service said for {about}: {said}",
        fix="name the credential that is live now with --previous; nothing was written",
        code="previous-does-not-mint",
    )


def previous_not_compared(path: str, key_id: str) -> Problem:
    """Neither the engine nor its tokens tell which key is live."""
    return Problem(
        "previous-not-compared",
        f"whether --previous holds the live credential could not be seen: {path}",
        f"neither the engine nor a token names the live key; key {key_id} mints",
        "make sure that it is the one that was written last",
    )


def role_gives_no_token(path: str, role: str, why: str) -> SkyflowctlError:
    """After the write, creds fails."""
    return SkyflowctlError(
        f"role {role} gives no token with the credential that was written: {path}",
        why=why,
        fix="check the key and its account's roles in Skyflow",
        code="role-gives-no-token",
    )


def not_watched(path: str) -> Problem:
    """Steps that need the full engine."""
    return Problem(
        "not-watched",
        f"canaries and watching are left out: {path}",
        "this engine does not say which key minted a token",
        f"watch 'skyflowctl health {path}' and the applications for a while",
    )


def local_proof_left_out(path: str) -> Problem:
    """The candidate is tried by the write itself."""
    return Problem(
        "not-proved-before",
        f"the new credential is tried only when it is written: {path}",
        "this engine cannot try a candidate, and no token service was asked from here",
        "see that the engine validates credentials on write",
    )


def unhealthy(path: str, said: str) -> SkyflowctlError:
    """The engine says that it does not mint."""
    return SkyflowctlError(
        f"the engine is not healthy with the new credential: {path}",
        why=f"it says: {said or 'nothing'}",
        fix="check the key and its account's roles in Skyflow",
        code="unhealthy-after-write",
    )


def other_key(path: str, key_id: str) -> SkyflowctlError:
    """Somebody else wrote, or the write had no effect."""
    return SkyflowctlError(
        f"another key is live than the one that was written: {path}",
        why=f"the engine says that key {key_id} is live",
        fix="find out who writes this mount's config besides you",
        code="other-key",
    )


def left_live(path: str, key_id: str) -> Problem:
    """The price of --no-rollback, or nothing was live before."""
    return Problem(
        "left-live",
        f"the new credential may be live, and there is no way back: {path}",
        f"key {key_id} was written or may have been, and no earlier credential was named",
        f"'skyflowctl health {path}' says whether it serves; if not, write a good one with "
        f"'skyflowctl rotate {path} --credentials REF'",
    )


def not_written_back(path: str, key_id: str) -> Problem:
    """Neither of both is proved."""
    return Problem(
        "not-written-back",
        f"the previous credential could not be written back, or is not proved: {path}",
        f"key {key_id} was to be live again",
        f"see 'skyflowctl health {path}'; write a good one with "
        f"'skyflowctl rotate {path} --credentials REF'",
    )
