"""The jobs of GitHub Actions and GitLab CI that read a token with the job's own identity."""

import json
from typing import Any
from urllib.parse import quote

from skyflowctl.manifest.write import documents_text
from skyflowctl.operations.consumer_manifest.request import SnippetRequest, present
from skyflowctl.operations.creds import TOKEN_VARIABLE

_ACTION = "hashicorp/vault-action@4c06c5ccf5c0761b6029f56cfb1dcf5565918a3b"
_ONCE = "A token lives about 60 minutes. A longer job repeats the step before that, or is split."


def github(request: SnippetRequest) -> str:
    """Return the job of a GitHub workflow."""
    # A text of the action is split at blanks, ; and |, so the ctx is percent-encoded.
    query = f"?ctx={quote(request.ctx, safe='')}" if request.ctx else ""
    inputs = {
        "url": request.address,
        "method": "jwt",
        "path": request.consumer.method,
        "role": request.consumer.name,
        **present(jwtGithubAudience=request.audience),
        "secrets": f"{request.path}{query} access_token | {TOKEN_VARIABLE}",
    }
    steps: list[dict[str, Any]] = [
        {"name": "Read the Skyflow token", "uses": _ACTION, "with": inputs},
        {"name": "Use it", "run": f'test -n "${TOKEN_VARIABLE}"'},
    ]
    job = {
        "runs-on": "ubuntu-latest",
        "permissions": {"id-token": "write", "contents": "read"},
        "steps": steps,
    }
    return documents_text(
        [{"jobs": {f"skyflow-{request.name}": job}}],
        [f"Later steps have the token in {TOKEN_VARIABLE}, masked in the log.", _ONCE],
    )


def gitlab(request: SnippetRequest) -> str:
    """Return the job of a GitLab pipeline.

    ``secrets`` sends no parameters, so a job with a ctx reads the token in its script.
    """
    tokens = {"VAULT_ID_TOKEN": {"aud": request.audience or "FILL_IN_AUDIENCE"}}
    job = _with_script(request) if request.ctx else _with_secrets(request)
    how = (
        "The keyword secrets sends no ctx, so the script asks: the image needs bao, the client."
        if request.ctx
        else "The keyword secrets needs GitLab Premium or Ultimate."
    )
    return documents_text(
        [{f"skyflow-{request.name}": {"id_tokens": tokens, **job}}],
        [f"The script has the token in {TOKEN_VARIABLE}.", _ONCE, how],
    )


def _with_secrets(request: SnippetRequest) -> dict[str, Any]:
    vault = {
        "engine": {"name": "generic", "path": request.mount},
        "path": f"creds/{request.role}",
        "field": "access_token",
    }
    return {
        "variables": {
            "VAULT_SERVER_URL": request.address,
            "VAULT_AUTH_PATH": request.consumer.method,
            "VAULT_AUTH_ROLE": request.consumer.name,
        },
        "secrets": {TOKEN_VARIABLE: {"vault": vault, "file": False, "token": "$VAULT_ID_TOKEN"}},
        "script": [f'test -n "${TOKEN_VARIABLE}"'],
    }


def _with_script(request: SnippetRequest) -> dict[str, Any]:
    """Return a script that keeps tokens and ctx off command lines: both go through pipes."""
    body = json.dumps({"ctx": request.ctx}, ensure_ascii=False)
    method, role = request.consumer.method, request.consumer.name
    login = f"bao write -field=token auth/{method}/login role={role}"
    read = f"bao write -field=access_token {request.path} -"
    return {
        "variables": {
            "BAO_ADDR": request.address,
            "SKYFLOW_REQUEST": {"value": body, "expand": False},
        },
        "script": [
            f'BAO_TOKEN=$(printf %s "$VAULT_ID_TOKEN" | {login} jwt=-)',
            "export BAO_TOKEN",
            f'{TOKEN_VARIABLE}=$(printf %s "$SKYFLOW_REQUEST" | {read})',
            f"export {TOKEN_VARIABLE}",
        ],
    }
