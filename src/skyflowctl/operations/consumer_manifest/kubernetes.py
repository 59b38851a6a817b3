"""The objects for readers of tokens in Kubernetes: injector, operators and CSI driver."""

from collections.abc import Sequence
from typing import Any

from skyflowctl.manifest.write import documents_text
from skyflowctl.operations.consumer_manifest.agent import token_template
from skyflowctl.operations.consumer_manifest.request import REFRESH, SnippetRequest, present
from skyflowctl.operations.creds import EXPIRY_VARIABLE, TOKEN_VARIABLE

_IN_SECRET = (
    f"The token is the key {TOKEN_VARIABLE} of the Kubernetes secret.",
    "Mount the secret as a volume: a variable of a running container never changes.",
)


def injector(request: SnippetRequest) -> str:
    """Return the part of a Deployment that makes the injector add an agent."""
    prefix, volume = "vault.hashicorp.com", "bao-login"
    annotations = {
        f"{prefix}/agent-inject": "true",
        f"{prefix}/service": request.address,
        f"{prefix}/auth-path": f"auth/{request.consumer.method}",
        f"{prefix}/role": request.consumer.name,
        f"{prefix}/template-static-secret-render-interval": REFRESH,
        f"{prefix}/agent-inject-secret-skyflow-token": request.path,
        f"{prefix}/agent-inject-template-skyflow-token": token_template(request),
    }
    spec: dict[str, Any] = {"serviceAccountName": request.service_account}
    if request.audience:
        annotations[f"{prefix}/agent-service-account-token-volume-name"] = volume
        login = {"path": "token", "audience": request.audience, "expirationSeconds": 3600}
        sources = [{"serviceAccountToken": login}]
        spec["volumes"] = [{"name": volume, "projected": {"sources": sources}}]
    return documents_text(
        [_deployment(request, annotations, spec)],
        [
            "Merge this into the application's Deployment.",
            "The application reads the token from /vault/secrets/skyflow-token for each call.",
            "Without the interval, the agent would ask every 5 minutes.",
        ],
    )


def vso(request: SnippetRequest) -> str:
    """Return the objects of the Vault Secrets Operator."""
    group, consumer = "secrets.hashicorp.com/v1beta1", request.consumer
    connection = {"address": request.address, "skipTLSVerify": False}
    methods = {"approle": "appRole", "jwt": "jwt", "kubernetes": "kubernetes"}
    method = methods[consumer.type]
    auth = {
        "vaultConnectionRef": request.name,
        "method": method,
        "mount": consumer.method,
        method: _vso_login(request),
    }
    secret = {
        "vaultAuthRef": request.name,
        "mount": request.mount,
        "path": f"creds/{request.role}",
        **present(params={"ctx": request.ctx} if request.ctx else {}),
        "refreshAfter": REFRESH,
        "destination": {
            "name": f"{request.name}-skyflow",
            "create": True,
            "transformation": {
                "excludeRaw": True,
                "excludes": [".*"],
                "templates": {
                    TOKEN_VARIABLE: {"text": '{{ get .Secrets "access_token" }}'},
                    EXPIRY_VARIABLE: {"text": '{{ get .Secrets "expires_at" }}'},
                },
            },
        },
    }
    return documents_text(
        [
            _object(group, "VaultConnection", request, connection),
            _object(group, "VaultAuth", request, auth),
            _object(group, "VaultDynamicSecret", request, secret),
        ],
        [
            *_secret_id_in(request, "id"),
            *_IN_SECRET,
            "Without refreshAfter, the operator would never ask again.",
        ],
    )


def _vso_login(request: SnippetRequest) -> dict[str, Any]:
    if request.consumer.type == "approle":
        return {"roleId": "FILL_IN_ROLE_ID", "secretRef": f"{request.name}-login"}
    return {
        "role": request.consumer.name,
        "serviceAccount": request.service_account,
        **present(audiences=[request.audience] if request.audience else []),
    }


def eso(request: SnippetRequest) -> str:
    """Return the objects of the External Secrets Operator."""
    generators = "generators.external-secrets.io/v1alpha1"
    provider = {"server": request.address, "auth": _eso_login(request)}
    read = {"method": "POST", "parameters": {"ctx": request.ctx}} if request.ctx else {}
    generator = {"path": request.path, **read, "resultType": "Data", "provider": provider}
    reference = {"apiVersion": generators, "kind": "VaultDynamicSecret", "name": request.name}
    keys = {TOKEN_VARIABLE: "{{ .access_token }}", EXPIRY_VARIABLE: "{{ .expires_at }}"}
    secret = {
        "refreshPolicy": "Periodic",
        "refreshInterval": REFRESH,
        "target": {"name": f"{request.name}-skyflow", "template": {"data": keys}},
        "dataFrom": [{"sourceRef": {"generatorRef": reference}}],
    }
    return documents_text(
        [
            _object(generators, "VaultDynamicSecret", request, generator),
            _object("external-secrets.io/v1", "ExternalSecret", request, secret),
        ],
        [*_secret_id_in(request, "secret-id"), *_IN_SECRET],
    )


def _eso_login(request: SnippetRequest) -> dict[str, Any]:
    consumer = request.consumer
    audiences = present(audiences=[request.audience] if request.audience else [])
    account = {"name": request.service_account, **audiences}
    if consumer.type == "approle":
        secret = {"name": f"{request.name}-login", "key": "secret-id"}
        login = {"path": consumer.method, "roleId": "FILL_IN_ROLE_ID", "secretRef": secret}
        return {"appRole": login}
    if consumer.type == "jwt":
        token = {"kubernetesServiceAccountToken": {"serviceAccountRef": account}}
        return {"jwt": {"path": consumer.method, "role": consumer.name, **token}}
    login = {"mountPath": consumer.method, "role": consumer.name, "serviceAccountRef": account}
    return {"kubernetes": login}


def csi(request: SnippetRequest) -> str:
    """Return the objects of the Secrets Store CSI driver, with the provider for Vault."""
    body = {"method": "PUT", "secretArgs": {"ctx": request.ctx}} if request.ctx else {}
    item = {"objectName": "skyflow-token", "secretPath": request.path, "secretKey": "access_token"}
    parameters = {
        "vaultAddress": request.address,
        "vaultAuthMountPath": request.consumer.method,
        "roleName": request.consumer.name,
        **present(audience=request.audience),
        "objects": documents_text([{"objects": [{**item, **body}]}]).partition("\n")[2],
    }
    group = "secrets-store.csi.x-k8s.io/v1"
    provider = {"provider": "vault", "parameters": parameters}
    attributes = {"secretProviderClass": request.name}
    driver = {"driver": "secrets-store.csi.k8s.io", "readOnly": True}
    mount = {"name": "skyflow", "mountPath": "/run/skyflow", "readOnly": True}
    spec = {
        "serviceAccountName": request.service_account,
        "volumes": [{"name": "skyflow", "csi": {**driver, "volumeAttributes": attributes}}],
        "containers": [{"name": request.name, "volumeMounts": [mount]}],
    }
    return documents_text(
        [
            _object(group, "SecretProviderClass", request, provider),
            _deployment(request, {}, spec),
        ],
        [
            "The interval is a setting of the driver, for the whole cluster (Helm values):",
            f"  enableSecretRotation: true, rotationPollInterval: {REFRESH}",
            "Without the first, the token is never read again; its default interval is 2 minutes.",
            "Merge the second document into the application's Deployment.",
            "The application reads the token from /run/skyflow/skyflow-token for each call.",
        ],
    )


def _object(group: str, kind: str, request: SnippetRequest, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": group, "kind": kind, "metadata": request.metadata, "spec": spec}


def _deployment(
    request: SnippetRequest, annotations: dict[str, str], spec: dict[str, Any]
) -> dict[str, Any]:
    metadata = {"metadata": {"annotations": annotations}} if annotations else {}
    return _object("apps/v1", "Deployment", request, {"template": {**metadata, "spec": spec}})


def _secret_id_in(request: SnippetRequest, key: str) -> Sequence[str]:
    if request.consumer.type != "approle":
        return ()
    return (f"The secret id is the key {key} of the Kubernetes secret {request.name}-login.",)
