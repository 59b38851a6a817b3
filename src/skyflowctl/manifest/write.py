"""Writes a manifest from plain data, as text that reads back to the same data."""

from collections.abc import Mapping
from typing import Any

from skyflowctl.manifest.yaml_tree import reads_as_text

_HEAD = "# yaml-language-server: $schema=./mounts.schema.json\n"


def manifest_text(data: Mapping[str, Any], comments: tuple[str, ...] = ()) -> str:
    """Return a manifest as YAML, in the given order of keys; a ``${`` is escaped.

    Args:
        data: the manifest's values.
        comments: lines for its head.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as blocks."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None if reads_as_text(value) else "'"
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    head = "".join(f"# {line}\n" for line in comments)
    escaped = _escaped(data)
    body = yaml.dump(
        escaped,
        Dumper=Dumper,
        sort_keys=False,
        # An unprintable character could disguise the text; it is written as an escape.
        allow_unicode=_printable(escaped),
        width=96,
        default_flow_style=None,
    )
    return f"{_HEAD}{head}{body}"


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(inner) for inner in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def _printable(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_printable(inner) for inner in value.values())
    if isinstance(value, list):
        return all(_printable(inner) for inner in value)
    return not isinstance(value, str) or value.replace("\n", "").isprintable()
