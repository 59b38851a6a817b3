"""Writes a consumer's snippet, after all that must fit has been checked."""

import re
from collections.abc import Mapping

from skyflowctl.engine.ctx import CtxRule, InvalidCtxError
from skyflowctl.errors import UsageError
from skyflowctl.frozen import dataclass
from skyflowctl.manifest.logins import APPLICATIONS
from skyflowctl.manifest.model import Consumer, Manifest, Mount, Role
from skyflowctl.operations.consumer_manifest import agent, ci, kubernetes, library, recipes
from skyflowctl.operations.consumer_manifest.request import (
    BLANKS,
    Family,
    SnippetRequest,
)
from skyflowctl.operations.creds import parse_ctx

_ADDRESS = re.compile(r"https?://[\w.:\[\]-]+(/[\w./-]*)?", re.ASCII)
_IN_KUBERNETES = ("kubernetes", "approle", "jwt")

FAMILIES: Mapping[str, Family] = {
    "agent": Family("bao agent", APPLICATIONS, agent.agent_file),
    "proxy": Family("bao proxy", APPLICATIONS, agent.proxy_file),
    "injector": Family("the agent injector", ("kubernetes",), kubernetes.injector),
    "vso": Family("the Vault Secrets Operator", _IN_KUBERNETES, kubernetes.vso),
    "eso": Family("the External Secrets Operator", _IN_KUBERNETES, kubernetes.eso, False),
    "csi": Family("the CSI provider", ("kubernetes",), kubernetes.csi, False),
    "github": Family("the GitHub action", ("jwt",), ci.github, False),
    "gitlab": Family("GitLab CI", ("jwt",), ci.gitlab, False),
    "python": library.library_family("Python", library.python_code),
    "node": recipes.recipe_family("Node.js", recipes.node_recipe),
    "java": recipes.recipe_family("Java", recipes.java_recipe),
    "go": recipes.recipe_family("Go", recipes.go_recipe),
    "airflow": library.library_family("Airflow", library.airflow_settings),
}


@dataclass(frozen=True, slots=True)
class SnippetOptions:
    """What the caller says besides the consumer; an empty text: nothing."""

    program: str
    role: str = ""
    ctx: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A ready text. ``blanks`` are the words in it that its reader replaces, and by what."""

    path: str
    text: str
    refresh: str
    blanks: Mapping[str, str]


def write_snippet(manifest: Manifest, consumer: Consumer, options: SnippetOptions) -> Snippet:
    """Return the configuration with which a program reads the tokens of one role.

    Raises:
        UsageError: the program cannot log in like this, or role or ctx do not fit.
    """
    family = FAMILIES[options.program]
    _check_login(consumer, options.program, family)
    mount, role = _role(manifest, consumer, options.role)
    ctx = _ctx(f"{mount.name}/{role.name}", role, options.ctx)
    address = _address(options.address)
    request = SnippetRequest(consumer, mount.path, role.name, ctx, address)
    text = family.render(request)
    words = sorted(set(re.findall(r"FILL_IN_[A-Z_]+", text)) & BLANKS.keys())
    blanks = {word: BLANKS[word] for word in words}
    if role.ctx.pattern and "FILL_IN_CTX" in blanks:
        blanks["FILL_IN_CTX"] += f"; its pattern is {role.ctx.pattern}"
    head = "".join(f"{family.comment} Replace {word}: {by}.\n" for word, by in blanks.items())
    return Snippet(request.path, head + text, family.refresh, blanks)


def _address(given: str) -> str:
    if given and not _ADDRESS.fullmatch(given):
        raise UsageError(
            "--address is not the address of a server",
            why="the snippet needs its URL",
            fix="for example --address https://bao.shop.example:8200",
        )
    return given or "FILL_IN_ADDRESS"


def _check_login(consumer: Consumer, program: str, family: Family) -> None:
    if consumer.type not in family.types:
        others = [name for name, one in FAMILIES.items() if consumer.type in one.types]
        listed = " or ".join(family.types)
        raise UsageError(
            f"{family.title} cannot log in as {consumer.name}",
            why=f"{consumer.name} is a consumer of type {consumer.type};"
            f" {family.title} logs in by {listed}",
            fix=f"give --for {'|'.join(others)}, or declare a consumer below {family.types[0]}:",
            code="login-does-not-fit",
        )
    claims = consumer.settings.get("bound_claims") or {}
    own, foreign = {"github": ("repository", "project_path")}.get(
        program, ("project_path", "repository")
    )
    if program in ("github", "gitlab") and foreign in claims and own not in claims:
        raise UsageError(
            f"{family.title} cannot log in as {consumer.name}",
            why=f"the login is bound to the claim {foreign}, which its tokens do not have",
            fix=f"give --for {'gitlab' if program == 'github' else 'github'},"
            f" or declare a consumer with preset: {program}",
            code="login-does-not-fit",
        )
    if family.keeps_login and consumer.settings.get("token_num_uses"):
        raise UsageError(
            f"{family.title} cannot work with the login {consumer.name}",
            why="its token_num_uses ends the login after a few requests",
            fix=f"remove token_num_uses from {consumer.name} in the manifest, and apply",
            code="login-does-not-fit",
        )


def _role(manifest: Manifest, consumer: Consumer, wanted: str) -> tuple[Mount, Role]:
    found = {
        f"{mount.name}/{role.name}": (mount, role)
        for mount in manifest.mounts
        for role in mount.roles
        if (mount.name, role.name) in consumer.grants
    }
    names = ", ".join(sorted(found))
    if not found:
        raise UsageError(
            f"{consumer.name} may read no Skyflow role",
            why="it is declared below auth, not below a role",
            fix="declare it below consumers: of a role",
            code="no-role",
        )
    if not wanted and len(found) > 1:
        raise UsageError(
            f"which role of {consumer.name} is not named",
            why=f"it may read {names}",
            fix=f"give --role {min(found)}",
            code="which-role",
        )
    chosen = wanted or next(iter(found))
    if chosen not in found:
        raise UsageError(
            f"{consumer.name} may not read {chosen}",
            why=f"it may read {names}",
            fix=f"give --role {min(found)}",
            code="no-such-role",
        )
    return found[chosen]


def _ctx(name: str, role: Role, given: str) -> str:
    """Return the ctx of the snippet: the given one, or the blank for a required one."""
    if not given:
        return "FILL_IN_CTX" if role.ctx.required else ""
    try:
        if not isinstance(parse_ctx(given), str):
            raise InvalidCtxError("a snippet sends a text, not an object")
        CtxRule.of(role.ctx.required, role.ctx.pattern).check(given)
    except InvalidCtxError as error:
        example = role.ctx.probe if isinstance(role.ctx.probe, str) and role.ctx.probe else ""
        raise UsageError(
            f"the ctx does not fit {name}",
            why=error.reason,
            fix=f"give one such as --ctx {example}"
            if example
            else "give a shorter, printable text",
            code="bad-ctx",
        ) from None
    return given
