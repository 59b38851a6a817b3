"""Snippets for the platforms that read tokens, each held to the fields of its public repository.

The tables list fields of the versions that are named beside them; a field of a snippet that is in
no table fails.
"""

from __future__ import annotations

import configparser
import json
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from support.snippets import SETTINGS, WHERE, consumer, manifest

from skyflowctl.client.airflow import AirflowSecretsBackend
from skyflowctl.errors import UsageError
from skyflowctl.hcl import Block, parse_hcl
from skyflowctl.manifest.model import Consumer, DeclaredCtx
from skyflowctl.operations.consumer_manifest.write import (
    FAMILIES,
    Snippet,
    SnippetOptions,
    write_snippet,
)

ADDRESS = "https://bao.shop.example:8200"
# Breaks any text that is glued and not quoted: of YAML, HCL, Go templates, JSON, shells, URLs.
HOSTILE = "order:a\"b\\c'd: #e | {{ .X }} ${y} $Z; `id` @f=1 & ü"
RECIPES = [program for program, one in FAMILIES.items() if one.comment == "//"]
LIBRARY = ["python", "airflow"]  # what uses the client library, which renews tokens itself
FITS = [
    (program, kind)
    for program, one in FAMILIES.items()
    for kind in one.types
    if program not in [*RECIPES, *LIBRARY]
]
REFUSED = [
    (program, kind)
    for program, one in FAMILIES.items()
    for kind in SETTINGS
    if kind not in one.types
]

# github.com/external-secrets/external-secrets, commit cc5bfbc2234ace9cb0caff4ea89c435cf517b27b
# (after v2.9.0), config/crds/bases
ESO_FIELDS = {
    "generators.external-secrets.io/v1alpha1 VaultDynamicSecret": """
        spec.path spec.method spec.parameters.* spec.getParameters.* spec.resultType
        spec.provider.server spec.provider.namespace spec.provider.caBundle
        spec.provider.auth.appRole.path spec.provider.auth.appRole.roleId
        spec.provider.auth.appRole.secretRef.name spec.provider.auth.appRole.secretRef.key
        spec.provider.auth.kubernetes.mountPath spec.provider.auth.kubernetes.role
        spec.provider.auth.kubernetes.serviceAccountRef.name
        spec.provider.auth.kubernetes.serviceAccountRef.audiences
        spec.provider.auth.jwt.path spec.provider.auth.jwt.role
        spec.provider.auth.jwt.kubernetesServiceAccountToken.serviceAccountRef.name
        spec.provider.auth.jwt.kubernetesServiceAccountToken.serviceAccountRef.audiences""",
    "external-secrets.io/v1 ExternalSecret": """
        spec.refreshPolicy spec.refreshInterval spec.target.name spec.target.template.data.*
        spec.dataFrom.sourceRef.generatorRef.apiVersion spec.dataFrom.sourceRef.generatorRef.kind
        spec.dataFrom.sourceRef.generatorRef.name""",
}
# github.com/hashicorp/vault-secrets-operator, commit 9b840a5a0c3455278d580418d6336f2011cf8574,
# config/crd/bases
VSO_FIELDS = {
    "secrets.hashicorp.com/v1beta1 VaultConnection": """
        spec.address spec.skipTLSVerify spec.caCertSecretRef spec.tlsServerName""",
    "secrets.hashicorp.com/v1beta1 VaultAuth": """
        spec.vaultConnectionRef spec.method spec.mount spec.namespace spec.appRole.roleId
        spec.appRole.secretRef spec.kubernetes.role spec.kubernetes.serviceAccount
        spec.kubernetes.audiences spec.jwt.role spec.jwt.serviceAccount spec.jwt.audiences""",
    "secrets.hashicorp.com/v1beta1 VaultDynamicSecret": """
        spec.vaultAuthRef spec.mount spec.path spec.params.* spec.refreshAfter
        spec.destination.name spec.destination.create
        spec.destination.transformation.excludeRaw spec.destination.transformation.excludes
        spec.destination.transformation.templates.*.text""",
}
# github.com/hashicorp/vault-k8s, commit fbc5b1f0cd4d1c7dd5a8830e32c8ed636d7318d7,
# agent-inject/agent/annotations.go; a prefix ends with -
INJECTOR_ANNOTATIONS = [
    "agent-inject",
    "service",
    "auth-path",
    "role",
    "template-static-secret-render-interval",
    "agent-inject-secret-",
    "agent-inject-template-",
    "agent-service-account-token-volume-name",
]
# github.com/hashicorp/vault-csi-provider, commit becf48f186634204871d6d9c494e6f5fc58aa6a3,
# internal/config/config.go
CSI_PARAMETERS = {"vaultAddress", "vaultAuthMountPath", "roleName", "audience", "objects"}
CSI_OBJECT = {"objectName", "secretPath", "secretKey", "method", "secretArgs", "filePermission"}
# github.com/hashicorp/vault-action, commit 4c06c5ccf5c0761b6029f56cfb1dcf5565918a3b (v3.4.0),
# action.yml
ACTION_INPUTS = {
    "url",
    "method",
    "path",
    "role",
    "jwtGithubAudience",
    "secrets",
    "namespace",
    "caCertificate",
}
# github.com/gitlabhq/gitlabhq, commit 0286e4c628d68960d0ca9e961d82c3ea6ac90633,
# app/assets/javascripts/editor/schema/ci.json
GITLAB_JOB = """id_tokens.*.aud variables.* variables.*.value variables.*.expand script
    secrets.*.vault.engine.name secrets.*.vault.engine.path secrets.*.vault.path
    secrets.*.vault.field secrets.*.file secrets.*.token"""


def written(program: str, kind: str, **options: str) -> Snippet:
    wanted = SnippetOptions(program, address=ADDRESS, **options)
    return write_snippet(manifest(), consumer(kind), wanted)


def documents(snippet: Snippet) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(snippet.text))


def leaves(value: Any, path: str = "") -> Iterator[str]:
    """Every field that has a plain value, as a path; a list counts as its items."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path


def assert_known(value: Any, table: str) -> None:
    known = [re.escape(one).replace(r"\*", "[^.]+") for one in table.split()]
    unknown = [one for one in leaves(value) if not any(re.fullmatch(k, one) for k in known)]
    assert not unknown


def by_kind(snippet: Snippet) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one["spec"] for one in documents(snippet)}


@pytest.mark.parametrize(("program", "kind"), FITS)
def test_a_snippet_has_its_interval_its_ctx_and_no_blank_that_was_given(
    program: str, kind: str
) -> None:
    made = written(program, kind, ctx=HOSTILE)
    assert made.path == "skyflow/order/creds/producer"
    assert made.refresh == "45m"
    if program not in ("github", "gitlab"):
        assert "45m" in made.text
    assert set(made.blanks) <= {"FILL_IN_ROLE_ID", "FILL_IN_SERVICE_ACCOUNT"}
    assert ADDRESS in made.text
    assert all(len(line) <= 110 for line in made.text.splitlines() if line.startswith("#"))


@pytest.mark.parametrize(("program", "kind"), FITS)
def test_a_required_ctx_that_was_not_given_is_a_blank(program: str, kind: str) -> None:
    ctx = DeclaredCtx(required=True, pattern="order:*", probe="order:probe")
    made = write_snippet(manifest(ctx), consumer(kind), SnippetOptions(program))
    assert made.text.count("FILL_IN_CTX") >= 2
    assert "order:*" in made.blanks["FILL_IN_CTX"]
    assert "FILL_IN_ADDRESS" in made.blanks
    # It breaks the pattern, so that a forgotten blank is refused by the server.
    assert not "FILL_IN_CTX".startswith("order:")


@pytest.mark.parametrize("program", RECIPES)
def test_a_recipe_has_the_consumers_names_and_its_example_the_ctx(program: str) -> None:
    made = written(program, "approle", ctx=HOSTILE)
    assert made.refresh == "55m"
    example = re.search(r'ource\.[Tt]oken\((".*")\)', made.text.partition("\n\n")[0])
    assert json.loads(example[1]) == HOSTILE
    names = (f"{ADDRESS}", "auth/approle/login", "skyflow/order/creds/producer")
    assert all(json.dumps(one) in made.text for one in (*names, "/etc/order-service/"))
    assert "@" not in made.text.replace(json.dumps(HOSTILE, ensure_ascii=program == "java"), "")
    assert 'oken("")' in written(program, "approle").text
    assert made.text.replace("\n", "").isprintable()  # the terminal would escape a tab


def test_the_blanks_of_a_recipe_are_in_comments_of_its_language() -> None:
    required = manifest(DeclaredCtx(required=True))
    made = write_snippet(required, consumer("approle"), SnippetOptions("go"))
    assert made.text.startswith("// Replace FILL_IN_ADDRESS: the server's address")
    assert sorted(made.blanks) == ["FILL_IN_ADDRESS", "FILL_IN_CTX"]


@pytest.mark.parametrize(("program", "kind"), FITS)
def test_a_role_without_ctx_has_none_in_the_snippet(program: str, kind: str) -> None:
    assert "ctx" not in written(program, kind).text.lower()


@pytest.mark.parametrize(("program", "kind"), REFUSED)
def test_a_login_that_the_platform_cannot_use_is_refused(program: str, kind: str) -> None:
    with pytest.raises(UsageError) as caught:
        written(program, kind)
    (problem,) = caught.value.problems
    assert problem.code == "login-does-not-fit"
    assert kind in problem.why
    named = re.search(r"--for ([a-z|]+)", problem.fix)
    assert named
    for other in named[1].split("|"):
        written(other, kind)  # the fix works


@pytest.mark.parametrize("program", ["agent", "proxy", "injector", "vso"])
def test_a_login_of_few_requests_is_refused_where_one_login_is_kept(program: str) -> None:
    limited = consumer("kubernetes", token_num_uses=3)
    with pytest.raises(UsageError, match="cannot work with the login"):
        write_snippet(manifest(), limited, SnippetOptions(program))


@pytest.mark.parametrize(
    ("program", "claim"), [("github", "project_path"), ("gitlab", "repository")]
)
def test_claims_of_the_other_forge_are_refused(program: str, claim: str) -> None:
    bound = consumer("jwt", bound_claims={claim: "shop/order"})
    with pytest.raises(UsageError, match="cannot log in"):
        write_snippet(manifest(), bound, SnippetOptions(program))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"role": "order/other"}, "no-such-role"),
        ({"ctx": "payment:1"}, "bad-ctx"),
        ({"ctx": '{"a": "b"}'}, "bad-ctx"),
        ({"ctx": "order:\u0007"}, "bad-ctx"),
        ({"address": 'https://x"\n'}, "usage"),
    ],
)
def test_what_does_not_fit_is_a_usage_error(options: dict[str, str], code: str) -> None:
    ctx = DeclaredCtx(required=True, pattern="order:*", probe="order:probe")
    with pytest.raises(UsageError) as caught:
        write_snippet(manifest(ctx), consumer("approle"), SnippetOptions("agent", **options))
    assert caught.value.problems[0].code == code


def test_one_of_several_roles_must_be_named_and_a_login_without_roles_has_none() -> None:
    both = (("order", "producer"), ("order", "reader"))
    several = Consumer("a", "approle", {}, both, WHERE)
    with pytest.raises(UsageError) as caught:
        write_snippet(manifest(), several, SnippetOptions("agent"))
    assert caught.value.problems[0].fix == "give --role order/producer"
    made = write_snippet(manifest(), several, SnippetOptions("agent", role="order/reader"))
    assert made.path == "skyflow/order/creds/reader"
    with pytest.raises(UsageError, match="no Skyflow role"):
        write_snippet(manifest(), Consumer("a", "approle", {}, (), WHERE), SnippetOptions("agent"))


def blocks(program: str, kind: str) -> Block:
    return parse_hcl(written(program, kind, ctx=HOSTILE).text)


@pytest.mark.parametrize("kind", FAMILIES["agent"].types)
def test_agent_and_proxy_log_in_at_the_consumer_s_method(kind: str) -> None:
    for program in ("agent", "proxy"):
        (login,) = blocks(program, kind).values("auto_auth")
        ((keys, method),) = login.items
        assert keys == ("method", kind)
        assert method.values("mount_path") == [f"auth/{kind}"]
        (config,) = method.values("config")
        name = {"approle": None, "cert": "name"}.get(kind, "role")
        assert name is None or config.values(name) == ["order-service"]


def test_the_agent_s_template_sends_the_ctx_as_one_quoted_text() -> None:
    (template,) = blocks("agent", "approle").values("template")
    text = template.values("contents")[0]
    quoted = re.search(r'secret "skyflow/order/creds/producer" (".*") \}\}\{\{ \.Data', text)
    assert quoted
    assert json.loads(quoted[1]) == f"ctx={HOSTILE}"


@pytest.mark.parametrize("kind", FAMILIES["eso"].types)
def test_objects_of_external_secrets_have_known_fields(kind: str) -> None:
    made = written("eso", kind, ctx=HOSTILE)
    for one in documents(made):
        assert_known({"spec": one["spec"]}, ESO_FIELDS[f"{one['apiVersion']} {one['kind']}"])
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", one["metadata"]["name"])
    spec = by_kind(made)
    assert spec["ExternalSecret"]["refreshInterval"] == "45m"
    assert spec["VaultDynamicSecret"]["parameters"] == {"ctx": HOSTILE}
    assert spec["VaultDynamicSecret"]["method"] == "POST"
    assert list(spec["VaultDynamicSecret"]["provider"]["auth"]) == [
        {"approle": "appRole"}.get(kind, kind)
    ]


@pytest.mark.parametrize("kind", FAMILIES["vso"].types)
def test_objects_of_the_secrets_operator_have_known_fields(kind: str) -> None:
    made = written("vso", kind, ctx=HOSTILE)
    for one in documents(made):
        assert_known({"spec": one["spec"]}, VSO_FIELDS[f"{one['apiVersion']} {one['kind']}"])
    secret = by_kind(made)["VaultDynamicSecret"]
    assert re.fullmatch(r"([0-9]+(\.[0-9]+)?(s|m|h))", secret["refreshAfter"])
    assert (secret["mount"], secret["path"]) == ("skyflow/order", "creds/producer")
    assert secret["params"] == {"ctx": HOSTILE}


def test_the_injector_s_annotations_are_known() -> None:
    (one,) = documents(written("injector", "kubernetes", ctx=HOSTILE))
    annotations = one["spec"]["template"]["metadata"]["annotations"]
    for name, value in annotations.items():
        prefix, _, own = name.partition("/")
        assert prefix == "vault.hashicorp.com"
        assert any(
            own == k or (k.endswith("-") and own.startswith(k)) for k in INJECTOR_ANNOTATIONS
        )
        assert isinstance(value, str)
    assert annotations["vault.hashicorp.com/template-static-secret-render-interval"] == "45m"
    spec = one["spec"]["template"]["spec"]
    volume = annotations["vault.hashicorp.com/agent-service-account-token-volume-name"]
    assert [one["name"] for one in spec["volumes"]] == [volume]
    assert spec["serviceAccountName"] == "order-account"
    assert one["metadata"]["namespace"] == "shop"


def test_the_csi_provider_s_parameters_are_known() -> None:
    made = written("csi", "kubernetes", ctx=HOSTILE)
    parameters = documents(made)[0]["spec"]["parameters"]
    assert set(parameters) <= CSI_PARAMETERS
    (item,) = yaml.safe_load(parameters["objects"])
    assert set(item) <= CSI_OBJECT
    assert item["secretArgs"] == {"ctx": HOSTILE}
    assert item["method"] == "PUT"
    assert "rotationPollInterval: 45m" in made.text


def test_the_github_job_has_known_inputs_and_an_encoded_ctx() -> None:
    (one,) = documents(written("github", "jwt", ctx=HOSTILE))
    (job,) = one["jobs"].values()
    assert job["permissions"] == {"id-token": "write", "contents": "read"}
    step = job["steps"][0]
    assert step["uses"].startswith("hashicorp/vault-action@4c06c5c")
    assert set(step["with"]) <= ACTION_INPUTS
    # As the action reads it: entries end at ; a name is behind the last | and two words remain.
    (entry,) = step["with"]["secrets"].split(";")
    words, name = entry.rsplit("|", 1)
    path, field = words.split()
    assert (field, name.strip()) == ("access_token", "SKYFLOW_BEARER_TOKEN")
    assert unquote(path) == f"skyflow/order/creds/producer?ctx={HOSTILE}"


@pytest.mark.parametrize("ctx", ["", HOSTILE])
def test_the_gitlab_job_has_known_keywords(ctx: str) -> None:
    (one,) = documents(written("gitlab", "jwt", ctx=ctx))
    (job,) = one.values()
    assert_known(job, GITLAB_JOB)
    assert job["id_tokens"]["VAULT_ID_TOKEN"] == {"aud": "bao"}
    if ctx:
        assert job["variables"]["SKYFLOW_REQUEST"]["expand"] is False
        assert json.loads(job["variables"]["SKYFLOW_REQUEST"]["value"]) == {"ctx": ctx}
    else:
        vault = job["secrets"]["SKYFLOW_BEARER_TOKEN"]["vault"]
        assert vault["engine"] == {"name": "generic", "path": "skyflow/order"}


@pytest.mark.parametrize("kind", FAMILIES["python"].types)
@pytest.mark.parametrize("ctx", ["", HOSTILE])
def test_the_python_module_logs_in_and_asks_as_the_library_wants_it(
    kind: str, ctx: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written("python", kind, ctx=ctx)
    assert made.refresh == "40m"
    asked: list[tuple[str, ...]] = []

    class Token:
        access_token = "the token"

    def answer(_self: object, *words: str) -> Token:
        asked.append(words)
        return Token()

    monkeypatch.setattr("skyflowctl.client.TokenSource.token", answer)
    module: dict[str, Any] = {}
    exec(compile(made.text, "token_source.py", "exec"), module)  # noqa: S102 - our own text
    source = module["source"]
    assert repr(source) == f"TokenSource({ADDRESS})"
    assert module["token"](*[ctx] * bool(ctx)) == "the token"
    assert asked == [("skyflow/order", "producer", *[ctx] * bool(ctx))]
    example = re.search(r"^# bearer = token\((.*)\)  ", made.text, re.MULTILINE)
    assert json.loads(example[1] or '""') == ctx
    login = {"approle": "AppRole", "kubernetes": "Kubernetes", "jwt": "Jwt"}[kind]
    assert f'mount="{kind}"' in made.text
    assert f"    {login}(" in made.text


@pytest.mark.parametrize("kind", FAMILIES["airflow"].types)
@pytest.mark.parametrize("ctx", ["", HOSTILE + " %(x)s %%"])
def test_the_backend_takes_airflows_settings(kind: str, ctx: str) -> None:
    made = written("airflow", kind, ctx=ctx)
    parsed = configparser.ConfigParser()
    parsed.read_string(made.text)
    secrets = parsed["secrets"]
    assert secrets["backend"] == "skyflowctl_client.airflow.AirflowSecretsBackend"
    given = secrets["backend_kwargs"]
    assert os.path.expandvars(given) == given
    options = json.loads(given)
    AirflowSecretsBackend(**options)
    wanted = {"mount": "skyflow/order", "role": "producer", **({"ctx": ctx} if ctx else {})}
    assert options["tokens"] == {"skyflow_token": wanted}
    assert options["server"] == ADDRESS
    assert options["login"][kind]["mount"] == kind
    assert options["connections_path"] is None
