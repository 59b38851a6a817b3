"""The checks of a secret that a program or standard input gives."""

from skyflowctl.credentials.errors import UnresolvedReferenceError
from skyflowctl.secret import Secret

MAX_BYTES = 1024 * 1024


def as_secret(raw: bytes, origin: str) -> Secret:
    """Return the text without its last line break.

    Raises:
        UnresolvedReferenceError: it is larger than 1 MiB, no UTF-8, or empty.
    """
    if len(raw) > MAX_BYTES:
        raise UnresolvedReferenceError(
            f"{origin} gave more than 1 MiB",
            why="no secret is that large",
            fix="let it give the secret alone",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        # "from None": the cause contains the bytes.
        raise UnresolvedReferenceError(
            f"{origin} gave no UTF-8 text",
            why="secrets are UTF-8 text",
            fix="let it give the secret as text",
        ) from None
    if not text.strip():
        raise UnresolvedReferenceError(
            f"{origin} gave nothing",
            why="there was nothing but blanks, or a manifest or token was read from it before",
            fix="let it give the secret",
            code="reference-empty",
        )
    return Secret(text.removesuffix("\n").removesuffix("\r"))
