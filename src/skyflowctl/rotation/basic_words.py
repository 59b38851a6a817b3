"""What is said of engines with the basic API."""

from skyflowctl.errors import Problem, Refused, SkyflowctlError


def no_way_back(path: str) -> Refused:
    """Nobody named one, and the engine keeps none."""
    return Refused(
        f"there would be no way back: {path}",
        why="this engine has no history and no check-and-set, so it keeps no earlier credential",
        fix="name the live credential with --previous REF, or accept it with --no-rollback",
        code="no-way-back",
    )


def cannot_generate(path: str) -> Refused:
    """A created key would be lost if the run were killed."""
    return Refused(
        f"no key is created for this engine: {path}",
        why="it cannot record which key a rotation created, so a killed run would lose one",
        fix="create the key in Skyflow Studio, then name it: "
        f"'skyflowctl rotate {path} --credentials REF'",
        code="cannot-generate",
    )


def no_history(path: str) -> Refused:
    """There is nothing to go back to."""
    return Refused(
        f"this engine keeps no earlier credential: {path}",
        why="it has no history and no rollback",
        fix=f"write the one that you want with 'skyflowctl rotate {path} --credentials REF'",
        code="no-history",
    )


def wrong_previous(path: str, live: str, previous: str) -> Refused:
    """What was named as the way back is not what is live."""
    return Refused(
        f"the way back is not what is live: {path}",
        why=f"--previous holds key {previous}, and key {live} is live",
        fix="name the credential that is live now",
        code="wrong-previous",
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
    """The price of --no-rollback."""
    return Problem(
        "left-live",
        f"the new credential may be live, and there is no way back: {path}",
        f"key {key_id} was written or may have been, and --no-rollback accepted that",
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
