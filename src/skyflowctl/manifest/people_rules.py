"""The rules of users and groups. They add problems and never raise."""

from collections.abc import Iterator

from skyflowctl.errors import Problem
from skyflowctl.manifest.access import bad_values, reserved_policies
from skyflowctl.manifest.logins import method_type
from skyflowctl.manifest.messages import did_you_mean, shown
from skyflowctl.manifest.nodes import Path, YamlNode, as_text, at_key, at_value, child, entries
from skyflowctl.manifest.people import user_entries

_Found = Iterator[tuple[Path, Problem]]
_NAMES_GROUPS = ("jwt", "oidc")


def people_rules(root: YamlNode) -> _Found:
    """Yield users and groups with values that the server or skyflowctl refuses."""
    for path, node in user_entries(root):
        yield from bad_values(path, node)
        yield from reserved_policies(path, node)
    first: dict[tuple[str, str], str] = {}
    for name, node in entries(child(root, "groups")):
        place: Path = ("groups", name)
        yield from reserved_policies(place, node)
        for method, one in entries(child(node, "aliases")):
            about = (*place, "aliases", method)
            yield from _alias_method(root, about, one)
            other = first.setdefault((method, as_text(one)), name)
            if other != name:
                summary = f"the groups {shown(other)} and {shown(name)} have the same alias"
                why = "the server gives a name at an issuer to one group"
                fix = "remove one of them, or give one group the policies of both"
                yield about, Problem("same-alias", summary, why, fix, at_value(one, about))


def _alias_method(root: YamlNode, about: Path, one: YamlNode) -> _Found:
    """Yield an alias of a login method whose logins do not name groups.

    A method that the manifest does not declare may be another one's.
    """
    method = str(about[-1])
    if child(root, "auth", method) is None:
        close = did_you_mean(method, [name for name, _ in entries(child(root, "auth"))])
        if close:
            summary = f"auth declares no login method {shown(method)}"
            why = "a group's alias belongs to a login method"
            yield about, Problem("bad-value", summary, why, close, at_key(one, about))
        return
    kind = method_type(root, method)
    if kind in ("approle", "cert", "kubernetes", "userpass"):
        summary = f"the logins of {shown(method)} name no groups"
        why = f"its type is {kind}; those of {' and '.join(_NAMES_GROUPS)} do, by a groups_claim"
        fix = "give its users the policies, below users; or name a method of one of those types"
        yield about, Problem("bad-value", summary, why, fix, at_key(one, about))
