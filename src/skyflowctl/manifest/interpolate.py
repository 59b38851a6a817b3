"""Replaces ``${NAME}`` and ``${NAME:-default}`` in the manifest's texts from the environment."""

import re
from collections.abc import Mapping

_USE = re.compile(r"\$\$\{|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-(?P<value>.*))?", re.DOTALL)
_SECRET_NAME = re.compile(
    r"SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|APIKEY|KEYS?(?:_|$)"
    r"|(?:^|_)(?:PWD|CREDS?|PIN)(?:_|$)"
)
_FORMS = "${NAME} or ${NAME:-default}; a literal ${ is written $${"


class BadInterpolationError(Exception):
    """A variable that cannot be replaced. No message contains a variable's value."""

    def __init__(self, code: str, summary: str, fix: str, why: str) -> None:
        super().__init__(summary)
        self.code = code
        self.summary = summary
        self.why = why
        self.fix = fix


def looks_secret(name: str) -> bool:
    """Return whether a variable's name suggests that it contains a secret."""
    return _SECRET_NAME.search(name.upper()) is not None


def interpolate(text: str, environ: Mapping[str, str]) -> str:
    """Return the text with every variable replaced, and ``$${`` converted to ``${``.

    Raises:
        BadInterpolationError: invalid syntax, an unset variable without default, a value that
            is no text, or a name that looks like a secret's. A manifest may contain secrets
            only as references.
    """
    return _USE.sub(lambda match: _replacement(match, environ), text)


def _replacement(match: re.Match[str], environ: Mapping[str, str]) -> str:
    if match["inside"] is None:
        return "${"
    inside = _INSIDE.fullmatch(match["inside"]) if match["end"] else None
    if inside is None:
        raise BadInterpolationError(
            "bad-interpolation",
            "a ${...} has another form",
            f"write {_FORMS}",
            "it does not end, or contains more than a name and a default",
        )
    name = inside["name"]
    if looks_secret(name):
        raise BadInterpolationError(
            "secret-interpolation",
            f"${{{name}}} looks like a secret, which a manifest must not contain",
            f"reference it instead, as in credentials: {{env: {name}}}",
            "its value would appear in plans and logs",
        )
    return _value(name, environ, inside["value"] if inside["default"] else None)


def _value(name: str, environ: Mapping[str, str], default: str | None) -> str:
    value = environ.get(name)
    if default is not None and not value:
        return default
    if value is None:
        fix = f"set it, or give a default: ${{{name}:-default}}"
        why = "it is not in the environment of this command"
        raise BadInterpolationError("unset-variable", f"the variable {name} is not set", fix, why)
    if not value.isprintable():
        raise BadInterpolationError(
            "bad-variable",
            f"the value of {name} is not one line of text",
            f"set {name} to plain text",
            "it contains a line break or another unprintable character",
        )
    return value
