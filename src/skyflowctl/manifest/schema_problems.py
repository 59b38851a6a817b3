"""Describes schema violations: one problem for each, with its position in the file."""

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from skyflowctl.clock import parse_duration
from skyflowctl.errors import Problem, Where
from skyflowctl.manifest.logins import TYPES
from skyflowctl.manifest.messages import (
    CREDENTIAL_KEYS,
    EXPECTED,
    VALUE_MASK,
    did_you_mean,
    how_to_quote,
    joined_names,
    meant,
    shown,
)
from skyflowctl.manifest.nodes import Path, YamlNode, at_key, descend, locate, plain
from skyflowctl.manifest.schema import Violation, rule_at, violations
from skyflowctl.manifest.schema_check import fits_schema
from skyflowctl.text import setting_text

_REFERENCES = frozenset({"client_secret", "credentials", "operator_token", "token_reviewer_jwt"})
_TYPE_NAMES = {
    "string": "text",
    "object": "a map",
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
}
_INLINE = "reference it, as in credentials: {file: PATH}; if this was a real credential, replace it"

_SOURCES = "give one of value, generate, file, env and keyring"
_NOT_THAT = "the manifest's schema does not allow this value here"
_INDENTATION = "a key that is indented one level too little or too much is read as another one"
_NO_VALUE = "a key without a value has no effect"
_NO_SECRETS = "a manifest references secrets and never contains them"
_SEE = "compare it with the output of: skyflowctl schema"


def check_schema(root: YamlNode, refused: AbstractSet[Path]) -> tuple[list[Problem], set[Path]]:
    """Return the problems and their paths.

    Args:
        root: the merged tree.
        refused: paths that already have a problem; they and the paths below them get no
            further problem.
    """
    data = plain(root)
    if fits_schema(data):
        return [], set()
    found = [
        finding
        for error in violations(data)
        if not is_below(error.path, refused)
        for finding in _problems(error, error.path, root)
        if finding[0] not in refused
    ]
    inline = {path for path, problem in found if problem.code == "inline-credential"}
    misspelled = {(path[:-1], one.fix) for path, one in found if one.code == "unknown-key"}
    listed = [
        problem
        for path, problem in found
        if problem.code == "inline-credential"
        or not (path in inline or _is_misspelled(path, problem, misspelled))
    ]
    return listed, {path for path, _ in found}


def _is_misspelled(path: Path, problem: Problem, misspelled: AbstractSet[tuple[Path, str]]) -> bool:
    """Return whether a key is missing only because its name is misspelled."""
    is_missing = problem.code == "missing-key"
    return is_missing and (path[:-1], meant(str(path[-1]))) in misspelled


def is_below(path: Path, refused: AbstractSet[Path]) -> bool:
    """Return whether a path, or one above it, was refused."""
    return any(path[:length] in refused for length in range(len(path) + 1))


def _problems(error: Violation, path: Path, root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    if error.keyword == "additionalProperties":
        yield from _unknown_keys(error, path, root)
    elif error.of_name:
        yield _bad_name(error, path, root)
    elif error.keyword == "required":
        where = locate(root, path)
        empty = ": {}" if (*path, error.missing) == ("mounts",) else ""
        fix = f"add {error.missing}{empty}"
        summary = f"{_name(path)} has no {error.missing}"
        why = "the schema requires it, and it has no default"
        yield (*path, error.missing), Problem("missing-key", summary, why, fix, where)
    else:
        if error.keyword == "uniqueItems":
            path = (*path, _repeated(error.instance))
        code, summary, why, fix = _words(error, path)
        yield path, Problem(code, summary, why, fix, locate(root, path))


def _unknown_keys(error: Violation, path: Path, root: YamlNode) -> Iterator[tuple[Path, Problem]]:
    rules = error.rule["properties"]
    unknown = [key for key in error.instance if key not in rules]
    if any(key in CREDENTIAL_KEYS for key in unknown):
        summary = f"{_name(path)} contains a credential"
        why = "many people read a manifest, and it is kept in version control"
        where = locate(root, path)
        yield path, Problem("inline-credential", summary, why, _INLINE, where)
        return
    for key in unknown:
        near = did_you_mean(key, list(rules))
        why = f"known here: {joined_names(sorted(rules))}"
        too_high = f"indent {path[-1]} deeper: it belongs to the entry above it" if path else ""
        fix = _at_another_level(key, path) or near
        fix = fix or (too_high if path[-1:] and path[-1] in rules else "remove it")
        summary = f'unknown key "{shown(key)}" in {_name(path)}'
        where = _key_of(root, (*path, key))
        yield (*path, key), Problem("unknown-key", summary, why, fix, where)


def _at_another_level(key: str, path: Path) -> str:
    """Return the advice on an indentation that makes a key unknown; empty: that is no reason."""
    above = rule_at(path[:-1]).get("properties", {}) if path else {}
    higher = rule_at(path[:-2]).get("properties", {}) if len(path) > 1 else {}
    if key in above or key in higher:
        return f"indent {key} less: it belongs to a level above"
    rules = rule_at(path).get("properties", {}).items()
    entries = ((name, rule.get("additionalProperties")) for name, rule in rules)
    for name, entry in entries:
        if isinstance(entry, dict) and key in entry.get("properties", {}):
            return f"indent {key} deeper: it belongs to an entry of {name}"
    return ""


_NAMED = {
    "roles": "a role",
    **dict.fromkeys(TYPES, "a consumer"),
    "auth": "a login method",
    "policies": "a policy",
    "audit_devices": "an audit device",
    "namespaces": "a namespace",
    "metadata": "a field",
    "engines": "an engine",
    "secrets": "a secret",
    "objects": "an object of an engine",
    "fields": "a field",
    "secret": "a field",
    "rules": "a path of a policy",
}


def _bad_name(error: Violation, path: Path, root: YamlNode) -> tuple[Path, Problem]:
    key = str(error.instance)
    kind = _NAMED.get(str(path[-1]) if path else "", "a mount")
    if len(path) == 4 and path[2] == "secrets":
        kind = "a field of a secret"
    where = _key_of(root, (*path, key))
    summary = f'"{shown(key)}" is not a valid name for {kind}'
    fix = f"use {EXPECTED[error.rule['pattern']]}"
    why = "it becomes part of a path on the server"
    return (*path, key), Problem("bad-name", summary, why, fix, where)


def _key_of(root: YamlNode, path: Path) -> Where:
    node = descend(root, path)
    return at_key(node, path) if node else locate(root, path)


_Words = tuple[str, str, str, str]


def _words(error: Violation, path: Path) -> _Words:
    writer = _WRITERS.get(error.keyword)
    if writer is None:
        return "bad-value", f"{_name(path)} does not match the schema", _NOT_THAT, _SEE
    return writer(error, path)


def _type(error: Violation, path: Path) -> _Words:
    wanted = error.limit
    options = [wanted] if isinstance(wanted, str) else list(wanted)
    expected = " or ".join(_TYPE_NAMES[option] for option in options)
    value = error.instance
    if value is None:
        fix = f"give {expected}, or remove the key"
        return "empty-value", f"{_name(path)} is empty", _NO_VALUE, fix
    if _is_reference(path):
        return "bad-reference", f"{_name(path)} must be a reference", _NO_SECRETS, _INLINE
    return _other_type(error, path, options)


def _other_type(error: Violation, path: Path, options: list[str]) -> _Words:
    value, expected = error.instance, " or ".join(_TYPE_NAMES[option] for option in options)
    if _is_secret_field(path) and len(path) == 5 and options == ["object"]:
        summary = f"{_name(path)} must be a map that says where the value comes from"
        return "bad-reference", summary, _NO_SECRETS, _sources(path)
    summary = f"{_name(path)} must be {expected}, not {_kind(value)}"
    if options[0] == "string" and isinstance(value, bool | int | float):
        why = "without quotes, YAML reads it as another type"
        fix = "write it in quotes" if _is_secret_field(path) else _in_quotes(value, error, path)
        return "quote-it", summary, why, fix
    if options == ["object"] and path[-1:] and path[-1] in error.rule.get("properties", {}):
        fix = f"indent {path[-1]} deeper: it belongs to the entry above it"
        return "bad-type", summary, _INDENTATION, fix
    if options == ["boolean"]:
        return "bad-type", summary, _NOT_THAT, "write true or false, without quotes"
    example = f": [{shown(value)}]" if options == ["array"] and isinstance(value, str) else ""
    return "bad-type", summary, _NOT_THAT, f"write it as {expected}{example}"


def _in_quotes(value: object, error: Violation, path: Path) -> str:
    text = setting_text(value)
    if _expected(error).startswith("a duration"):
        never = value == 0 and path[-1:] == ("max_age",)
        return ("" if never else _with_unit(text)) or f"use {_expected(error)}"
    return how_to_quote(text, error.rule)


def _with_unit(number: str) -> str:
    """Return a plain number of seconds as a duration text; servers show plain seconds."""
    try:
        seconds = parse_duration(f"{number}s")
    except ValueError:
        return ""
    days = f" or {seconds.days}d" if seconds.days and not seconds.seconds else ""
    return f"give it a unit: {number}s{days}"


def _expected(error: Violation) -> str:
    return EXPECTED.get(error.rule.get("pattern", ""), "another form")


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "a map" if isinstance(value, dict) else "a list"


def _bad_form(error: Violation, path: Path) -> _Words:
    expected = _expected(error)
    code = "bad-duration" if "duration" in expected else "bad-value"
    if (path and path[-1] == "path") or path[-1:] == ("path_prefix",):
        code = "bad-path"
    if path == ("manifest",):
        code = "bad-name"
    # The text of a reference may be the secret itself, entered by mistake.
    hidden = _REFERENCES & set(path) or _is_password(path) or _is_secret_field(path)
    value = VALUE_MASK if hidden else shown(str(error.instance))
    text = f'cannot be "{value}"' if value != VALUE_MASK else "has a form that is not allowed"
    return code, f"{_name(path)} {text}", _NOT_THAT, f"use {expected}"


def _const(error: Violation, path: Path) -> _Words:
    wanted = error.limit
    if isinstance(wanted, bool):
        fix = f"write {path[-1]}: {str(wanted).lower()}, or remove the key"
        summary = f"{_name(path)} must be {str(wanted).lower()}"
        return "bad-value", summary, "only its presence says anything", fix
    why = f"this version of skyflowctl reads format {wanted}"
    return "bad-version", f"{_name(path)} must be {wanted}", why, f"write {path[-1]}: {wanted}"


def _enum(error: Violation, path: Path) -> _Words:
    options = [str(option) for option in error.limit]
    fix = did_you_mean(str(error.instance), options) or f"write {' or '.join(options)}"
    return "bad-value", f"{_name(path)} must be {' or '.join(options)}", _NOT_THAT, fix


def _size(error: Violation, path: Path) -> _Words:
    limit = error.limit
    if path and path[-1] == "role_ids":
        fix = "give one role id; add a separate role for each further use"
        why = "a token is minted for exactly one Skyflow role"
        return "one-role-id", f"{_name(path)} must have exactly one role id", why, fix
    if _is_reference(path):
        summary, why = f"{_name(path)} must name exactly one place", "a secret has one source"
        fix = "keep one of file, env, keyring, vault, exec, stdin, server_file and live"
        return "bad-reference", summary, why, fix
    if _is_secret_field(path) and len(path) == 5:
        summary, why = f"{_name(path)} must have exactly one source", "a field has one value"
        return "bad-reference", summary, why, _sources(path)
    if words := _one_source(error, path):
        return words
    if not error.instance:
        fix = "give it a value, or remove the key"
        return "empty-value", f"{_name(path)} is empty", _NO_VALUE, fix
    bound = "at most" if error.keyword.startswith("max") else "at least"
    unit = "characters" if isinstance(error.instance, str) else "entries"
    summary = f"{_name(path)} may have {bound} {limit} {unit}"
    fix = "shorten it" if isinstance(error.instance, str) else "remove some"
    return "bad-length", summary, _NOT_THAT, fix if bound == "at most" else "give more"


def _one_source(error: Violation, path: Path) -> _Words | None:
    summary = f"{_name(path)} must have exactly one source"
    if len(path) == 2 and path[0] == "policies":
        fix = "keep one of file, text and rules"
        return "bad-policy", summary, "a policy has one text", fix
    if path[-1:] == ("ca",) and error.instance:
        why = "each would be the authority's certificate"
        return "two-sources", summary, why, "keep file or live"
    return None


def _range(error: Violation, path: Path) -> _Words:
    bound = "at least" if error.keyword == "minimum" else "at most"
    summary = f"{_name(path)} must be {bound} {error.limit}"
    return "bad-value", summary, _NOT_THAT, f"use a whole number of {bound} {error.limit}"


def _any_of(error: Violation, path: Path) -> _Words:
    """Describe a value of several types: a ctx's probe, or a field of an engine's object."""
    if error.instance is None or error.instance in ("", {}):
        fix = "give it a value, or remove the key"
        return "empty-value", f"{_name(path)} is empty", _NO_VALUE, fix
    if not any("maxProperties" in one for one in error.limit):
        summary = f"{_name(path)} must be text, a number, true, false or a list of texts"
        why = "the fields of the server's API have no others"
        return (
            "bad-type",
            summary,
            why,
            "give a value of one of these types; a map as JSON in quotes",
        )
    if isinstance(error.instance, dict):
        limit = next(one["maxProperties"] for one in error.limit if "maxProperties" in one)
        summary = f"{_name(path)} may have at most {limit} entries"
        return "bad-length", summary, _NOT_THAT, "remove some"
    summary = f"{_name(path)} must be text or a map, not {_kind(error.instance)}"
    return "bad-type", summary, _NOT_THAT, "give text in quotes, or a flat map of 1 to 16 values"


def _repeated(items: Sequence[object]) -> int:
    return next(index for index, item in enumerate(items) if item in items[:index])


def _unique(_: Violation, path: Path) -> _Words:
    why = "its entries are a set: a duplicate has no effect"
    return "repeated-item", f"{_name(path[:-1])} has a duplicate entry", why, "keep it once"


_WRITERS: dict[str, Callable[[Violation, Path], _Words]] = {
    "type": _type,
    "pattern": _bad_form,
    "const": _const,
    "enum": _enum,
    "uniqueItems": _unique,
    "anyOf": _any_of,
    **dict.fromkeys(("minimum", "maximum"), _range),
    **dict.fromkeys(
        ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"), _size
    ),
}


def _is_reference(path: Path) -> bool:
    return bool(path) and (path[-1] in _REFERENCES or _is_password(path))


def _is_password(path: Path) -> bool:
    """Return whether a path is, or is below, the password of a user."""
    return len(path) > 4 and path[0] == "auth" and path[2] == "users" and path[4] == "password"


def _is_secret_field(path: Path) -> bool:
    """Return whether a path is, or is below, a field of a secret: its value may be the secret."""
    if len(path) > 5 and path[:1] == ("engines",) and path[2] == "objects":
        return path[4] == "secret"
    if len(path) > 4 and path[0] == "engines" and path[2] == "connections":
        return path[4] == "password"
    return len(path) > 4 and path[0] == "engines" and path[2] == "secrets"


def _sources(path: Path) -> str:
    return _SOURCES if path[2] != "connections" else "give one of file, env, keyring and vault"


def _name(path: Path) -> str:
    return ".".join(shown(str(part)) for part in path) if path else "the file"
