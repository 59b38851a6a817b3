"""docs/manifest.md is what schemas/mounts.schema.json says, key by key.

After a change of the schema, run ``python tests/architecture/test_manifest_page.py``, which
writes the page anew, and read the difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import yaml

from skyflowctl.manifest.login_rules import _OIDC_ROLE

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "manifest.md"
TYPES = ("approle", "kubernetes", "jwt", "cert")
COMMAND = "python tests/architecture/test_manifest_page.py"
LINE = 88
BAR = "\\|"
"""A bar in a cell of a table; also in code there."""
FRONT = f"""# The manifest
<!-- Generated from schemas/mounts.schema.json by "{COMMAND}". Do not edit. -->
This page has every key of a manifest: its type, default, limits and an example. It is generated \
from [the schema](../schemas/mounts.schema.json), which `skyflowctl validate` checks a manifest \
against. `skyflowctl schema` prints that schema for an editor. A key that is not on this \
page is refused, with its line and column.

- A key is optional unless its default is *required*. Names in capitals, such as NAME, are yours.
- Text may contain `${{NAME}}` or `${{NAME:-default}}`, an environment variable; never a secret.
- Several `-f` files are merged: maps by key; a list replaces the list before it, except that \
`defaults.tags` are added to a mount's.
- A secret is never in a manifest, only [where it is stored](references.md).
"""


@cache
def schema() -> dict[str, Any]:
    whole: dict[str, Any] = json.loads((ROOT / "schemas" / "mounts.schema.json").read_text())
    return whole


def resolved(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule with the rule that it refers to, whose texts its own replace."""
    if "$ref" not in rule:
        return rule
    steps = rule["$ref"].removeprefix("#/").split("/")
    own = {key: value for key, value in rule.items() if key != "$ref"}
    return {**resolved(reduce(getitem, steps, schema())), **own}


def definition(rule: dict[str, Any]) -> str:
    """Where the section is that describes a rule's value for several keys; empty without one."""
    while found := re.fullmatch(r"#/\$defs/(\w+)(?:/properties/(\w+))?", rule.get("$ref", "")):
        rule = reduce(getitem, rule["$ref"].removeprefix("#/").split("/"), schema())
        if found[1] in shared() and (not found[2] or resolved(rule).get("properties")):
            return ".".join(filter(None, found.groups()))
    return ""


@cache
def shared() -> frozenset[str]:
    """Definitions with a section of their own: forms of text, and objects used twice."""
    used = re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(schema()))
    return frozenset(
        name
        for name, rule in schema()["$defs"].items()
        if (is_object(resolved(rule)) and used.count(name) > 1)
        or (used.count(name) > 2 and "pattern" in rule)
    )


def is_object(rule: dict[str, Any]) -> bool:
    return bool(rule.get("properties") or isinstance(rule.get("additionalProperties"), dict))


def values(rule: dict[str, Any]) -> dict[str, Any] | None:
    """The rule of the values below names that the writer chooses, or of a list's entries."""
    found = rule.get("items", rule.get("additionalProperties"))
    return found if isinstance(found, dict) else None


def placeholder(rule: dict[str, Any]) -> str:
    names = rule.get("propertyNames", {})
    return "PATH" if "path" in resolved(names).get("description", "") else "NAME"


def below(where: str, rule: dict[str, Any]) -> str:
    return f"{where}[]" if "items" in rule else f"{where}.{placeholder(rule)}".removeprefix(".")


def anchor(where: str) -> str:
    return where.replace("[]", ".entry")


def link(where: str, shown: str = "") -> str:
    return f"[{shown or where}](#{anchor(where)})"


def kind(where: str, rule: dict[str, Any]) -> str:
    """What a value is, in a word, with a link to the section that says more."""
    name, full = definition(rule), resolved(rule)
    if name:
        return link(name)
    if "items" in full:
        inner = full["items"]
        return f"list of {plural(kind(below(where, full), inner))}"
    if full.get("properties"):
        return link(where, "object")
    if inner := values(full):
        to = kind(below(where, full), inner)
        return f"map: {placeholder(full)} to {to}"
    if "const" in full or "enum" in full:
        found = [code(one) for one in full.get("enum", [full.get("const")])]
        return (", " if len(found) > 3 else " or ").join(found)
    if several := full.get("anyOf", full.get("oneOf")):
        return " or ".join(dict.fromkeys(kind(where, one) for one in several))
    types = {"string": "text", "boolean": "`true` or `false`"}
    named = full.get("type", "any")
    return " or ".join(
        types.get(one, one) for one in ([named] if isinstance(named, str) else named)
    )


def plural(word: str) -> str:
    return {"text": "texts", "integer": "integers"}.get(word, word)


def code(value: Any) -> str:
    return f"`{flow(value)}`"


def flow(value: Any) -> str:
    """A value in YAML on one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...")


def between(rule: dict[str, Any], low: str, high: str, word: str) -> Iterator[str]:
    least, most = rule.get(low), rule.get(high)
    one = {"keys": "key", "entries": "entry", "characters": "character"}.get(word, word)
    unit = f" {one if 1 in (least, most) and most in (1, None) else word}".rstrip()
    if least is not None and least == most:
        yield f"exactly {least}{unit}"
    elif least is not None and most is not None and (least or not word):
        yield f"{least} to {most}{unit}"
    elif least:
        yield f"at least {least}{unit}"
    elif most is not None:
        yield f"at most {most}{unit}"


def limits(rule: dict[str, Any]) -> Iterator[str]:
    full = resolved(rule)
    if definition(rule):
        return
    yield from between(full, "minLength", "maxLength", "characters")
    if "pattern" in full:
        yield f"form `{full['pattern']}`"
    yield from between(full, "minimum", "maximum", "")
    yield from between(full, "minItems", "maxItems", "entries")
    if not full.get("properties"):
        yield from between(full, "minProperties", "maxProperties", "keys")
    if full.get("uniqueItems"):
        yield "no duplicates"
    if "items" in full and (each := " and ".join(limits(full["items"]))):
        yield f"each {each}"


def told(rule: dict[str, Any]) -> tuple[str, str]:
    """A rule's description without its sentence about the default, and that default."""
    text = resolved(rule).get("description", "")
    found = re.search(r" ?\bDefault: (?P<value>.+?)\.(?= [A-Z]|$)", text)
    if not found:
        return text, code(resolved(rule)["default"]) if "default" in resolved(rule) else "none"
    return (text[: found.start()] + text[found.end() :]).strip(), found["value"]


def has_section(where: str, rule: dict[str, Any]) -> bool:
    """Whether a key has a section of its own, which then has its anchor."""
    full = resolved(rule)
    top = "." not in where and (is_object(full) or "items" in full)
    return not definition(rule) and (top or bool(full.get("properties")))


def row(where: str, key: str, rule: dict[str, Any], *, required: bool) -> str:
    text, default = told(rule)
    own = f"{where}.{key}".removeprefix(".")
    shown = resolved(rule).get("examples", [])[:3]
    examples = "<br>".join(code(one) for one in shown)
    cells = (
        link(own, f"`{key}`") if has_section(own, rule) else f'<a id="{anchor(own)}"></a>`{key}`',
        kind(own, rule),
        "*required*" if required else default,
        f"{of_types(where, key)}{text}",
        ", ".join(limits(rule)),
        examples if len(examples) <= LINE else "below",
    )
    return "| " + " | ".join(cell.replace("|", BAR) or "-" for cell in cells) + " |"


def of_types(where: str, key: str) -> str:
    """The types of logins that have this setting, where those of several types are together."""
    name = {"consumers.NAME.NAME": "consumer", "roles.NAME": "login_role"}.get(
        where.removeprefix("mounts.NAME.roles.NAME.").removeprefix("auth.NAME.")
    )
    if name is None or where.startswith("mounts.NAME.roles.NAME") != (name == "consumer"):
        return ""
    kinds = [one for one in TYPES if key in schema()["$defs"][f"{one}_consumer"]["properties"]]
    if kinds and name == "login_role" and key in _OIDC_ROLE:
        kinds.append("oidc")
    # What no application's login has says its type itself.
    everywhere = len(TYPES) + (name == "login_role")
    return "" if len(kinds) in (0, everywhere) else f"{', '.join(kinds)}: "


def table(where: str, rule: dict[str, Any]) -> Iterator[str]:
    properties = rule.get("properties", {})
    if not properties:
        return
    yield from (
        "| key | type | default | meaning | limits | example |",
        "|---|---|---|---|---|---|",
    )
    for key, one in properties.items():
        yield row(where, key, one, required=key in rule.get("required", ()))
    if inner := values(rule):
        yield row(where, placeholder(rule), inner, required=False)
    yield ""


def example(where: str, rule: dict[str, Any]) -> Iterator[str]:
    """A block with the first example, below its own key where that has a name."""
    for one in rule.get("examples", [])[:1]:
        last = written_as(where) if where in shared() else re.split(r"[.]", where)[-1]
        shown = one if last.isupper() or "[]" in last else {last: one}
        yield "```yaml"
        yield yaml.safe_dump(shown, sort_keys=False, width=LINE, allow_unicode=True).rstrip("\n")
        yield from ("```", "")


def written_as(name: str) -> str:
    """A key of a manifest that has a value of this definition."""
    found = list(uses(schema(), f"#/$defs/{name}"))
    return min(found, key=lambda one: one[0] == "")[0] or found[0][1]


def uses(rule: Any, to: str) -> Iterator[tuple[str, str]]:
    """Every key whose value is a definition's; else the first one of an example of a map."""
    if isinstance(rule, list):
        for one in rule:
            yield from uses(one, to)
    elif isinstance(rule, dict):
        for key, one in (rule.get("properties") or {}).items():
            if isinstance(one, dict) and one.get("$ref") == to:
                yield key, key
        if isinstance(inner := rule.get("additionalProperties"), dict) and inner.get("$ref") == to:
            yield "", next(iter(rule["examples"][0]))
        for key, one in rule.items():
            yield from () if key == "examples" else uses(one, to)


def sections(where: str, rule: dict[str, Any], level: int) -> Iterator[str]:
    """The section of an object, then those of what is below it."""
    full = resolved(rule)
    if not is_object(full) and "items" not in full:
        return
    if full.get("properties") or level == 2:
        yield f'{"#" * min(level, 4)} <a id="{anchor(where)}"></a>{where}'
        yield from (" ".join((*told(rule)[:1], *bounds(full))), "")
        yield from table(where, full)
        yield from example(where, full)
    for key, one in full.get("properties", {}).items():
        yield from deeper(f"{where}.{key}", one, level)
    if inner := values(full):
        yield from deeper(below(where, full), inner, level)


def bounds(rule: dict[str, Any]) -> list[str]:
    found = list(between(rule, "minProperties", "maxProperties", "keys"))
    return [f"Limits: {', '.join(found)}."] if found else []


def deeper(where: str, rule: dict[str, Any], level: int) -> Iterator[str]:
    if not definition(rule):
        yield from sections(where, rule, level + 1)


def shape(name: str) -> Iterator[str]:
    """The section of a definition that several keys share."""
    rule = schema()["$defs"][name]
    if is_object(rule):
        yield from sections(name, rule, 3)
        return
    yield f'### <a id="{name}"></a>{name}'
    found = [*between(rule, "minLength", "maxLength", "characters"), f"form `{rule['pattern']}`"]
    examples = " or ".join(code(one) for one in rule["examples"])
    yield f"{rule['description']} Limits: {', '.join(found)}. Example: {examples}."
    yield ""


def page() -> str:
    whole = schema()
    lines = [FRONT, *table("", whole), "A whole manifest:", "", *example("WHOLE", whole)]
    for key, one in whole["properties"].items():
        lines += deeper(key, one, 1)
    lines += ["## Values that several keys share", ""]
    for name in sorted(shared()):
        lines += shape(name)
    return "\n".join(lines).rstrip("\n") + "\n"


def keys(rule: Any) -> Iterator[str]:
    """The name of every property anywhere in the schema."""
    if isinstance(rule, list):
        for one in rule:
            yield from keys(one)
    elif isinstance(rule, dict):
        yield from rule["properties"] if isinstance(rule.get("properties"), dict) else ()
        for name, one in rule.items():
            yield from () if name == "examples" else keys(one)


def test_the_page_is_what_the_schema_says():
    assert PAGE.read_text() == page(), f"the schema has changed: run '{COMMAND}'"


def test_every_key_of_the_schema_is_on_the_page_and_every_link_leads_somewhere():
    text = page()
    anchors = re.findall(r'<a id="([^"]+)"></a>', text)
    shown = re.findall(r"^\| (?:<a id=\S+></a>|\[)`(\w+)`", text, re.MULTILINE)
    assert set(keys(schema())) <= set(shown)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(anchors)


def test_a_default_is_told_in_its_own_column():
    assert told({"description": "The port. Default: 80 (plain). It is open."}) == (
        "The port. It is open.",
        "80 (plain)",
    )
    assert told({"description": "The port.", "default": 80}) == ("The port.", "`80`")


def test_a_setting_of_logins_of_several_types_tells_its_types():
    assert of_types("auth.NAME.roles.NAME", "bound_claims") == "jwt, oidc: "
    assert of_types("mounts.NAME.roles.NAME.consumers.NAME.NAME", "audience") == "kubernetes, jwt: "
    assert of_types("mounts.NAME.roles.NAME.consumers.NAME.NAME", "cidrs") == ""
    assert of_types("mounts.NAME.roles.NAME", "role_ids") == ""


def test_an_example_of_a_shared_value_has_a_key_of_a_manifest():
    whole = json.dumps(schema())
    written = {name: written_as(name) for name in shared() if is_object(schema()["$defs"][name])}
    assert written["reference"] == "credentials"
    assert all(f'"{key}"' in whole and key != "reference" for key in written.values())


if __name__ == "__main__":
    PAGE.write_text(page())
