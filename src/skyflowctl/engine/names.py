"""The rule for names of roles, in one place for the engine and for whoever asks it."""

import re

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
NAME_RULE = "a name has 1 to 63 lower-case letters, digits, _ and -, the first no _ or -"


def is_name(text: str) -> bool:
    """Tell whether a text is a name: it then is one part of a path and nothing else."""
    return NAME.fullmatch(text) is not None
