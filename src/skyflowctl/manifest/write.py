"""Writes plain data as YAML: a manifest, or documents for other programs."""

from collections.abc import Mapping, Sequence
from typing import Any

from skyflowctl.errors import RefusedError, UsageError
from skyflowctl.manifest.yaml_tree import reads_as_text

_HEAD = "# yaml-language-server: $schema=./mounts.schema.json\n"
_UNFOLDED = 4096


def manifest_text(data: Mapping[str, Any], comments: tuple[str, ...] = ()) -> str:
    """Return a manifest as YAML, in the given order of keys; a ``${`` is escaped.

    Args:
        data: the manifest's values.
        comments: lines for its head.
    """
    head = "".join(f"# {line}\n" for line in comments)
    return f"{_HEAD}{head}{_dumped(_escaped(data), flow=None)}"


def documents_text(documents: Sequence[Mapping[str, Any]], comments: Sequence[str] = ()) -> str:
    """Return documents as one YAML text, in the given order of keys, below the comments."""
    head = "".join(f"# {line}\n" for line in comments)
    return head + "---\n".join(_dumped(one, flow=False) for one in documents)


def _dumped(data: Any, *, flow: bool | None) -> str:
    """Return data as YAML; ``flow`` None: collections without others inside are one line."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as blocks."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None if reads_as_text(value) else "'"
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    written: str = yaml.dump(
        data,
        Dumper=Dumper,
        sort_keys=False,
        # An unprintable character could disguise the text; it is written as an escape.
        allow_unicode=_printable(data),
        width=96 if flow is None else _UNFOLDED,
        default_flow_style=flow,
    )
    return written


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


def save(text: str, path: str) -> None:
    """Write a manifest to a new file.

    Raises:
        RefusedError: the file exists; it is not overwritten.
        UsageError: it cannot be written there.
    """
    try:
        with open(path, "x", encoding="utf-8") as file:  # noqa: PTH123 - "x" refuses links too
            file.write(text)
    except FileExistsError:
        raise RefusedError(
            f"{path} exists already",
            why="export never overwrites a file",
            fix="name another file with --out",
            code="file-exists",
        ) from None
    except OSError as error:
        raise UsageError.of_file(
            f"cannot write {path}",
            error,
            fix="check the folder and its permissions",
            code="not-writable",
        ) from None
