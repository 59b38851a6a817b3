"""Token sources for applications that read a role's tokens in their own code."""

import json
import re
from collections.abc import Callable
from importlib.resources import files

from skyflowctl.operations.consumer_manifest.request import Family, SnippetRequest

_GAP = re.compile(r'@("?)(NAME|ADDRESS|PATH|LOGIN|FOLDER|CTX)\1@')
"""What a recipe says of its consumer: ``@NAME@`` plain, ``@"PATH"@`` as a text of its language."""


def recipe_family(language: str, render: Callable[[SnippetRequest], str]) -> Family:
    """Return what there is to know of a recipe: it reads a token 5 minutes before its end."""
    title = f"the recipe for {language}"
    return Family(title, ("approle",), render, comment="//", refresh="55m")


def node_recipe(request: SnippetRequest) -> str:
    """Return a module of Node.js."""
    return _filled("token-source.mjs", request)


def java_recipe(request: SnippetRequest) -> str:
    """Return a class of Java, whose source is read in the platform's encoding: ASCII is safe."""
    return _filled("TokenSource.java", request, ascii_only=True)


def go_recipe(request: SnippetRequest) -> str:
    """Return a file of a Go package."""
    return _filled("token_source.go", request)


def _filled(file: str, request: SnippetRequest, *, ascii_only: bool = False) -> str:
    """Return a recipe with the consumer's own values.

    A ctx has only printable characters, of which JSON escapes the quote and the backslash alone:
    all three languages read both escapes as JSON does.
    """
    values = {
        "NAME": request.consumer.name,
        "ADDRESS": request.address,
        "PATH": request.path,
        "LOGIN": f"auth/{request.consumer.method}/login",
        "FOLDER": f"/etc/{request.name}/",
        "CTX": request.ctx,
    }

    def value(gap: re.Match[str]) -> str:
        text = values[gap[2]]
        return json.dumps(text, ensure_ascii=ascii_only) if gap[1] else text

    text = files(__package__).joinpath("recipes", file).read_text(encoding="utf-8")
    return _GAP.sub(value, text)
