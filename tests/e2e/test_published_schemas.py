"""What we print or ship for other programs, held to the schemas that those publish themselves."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, ValidationError
from support.go_modules import module_folder
from support.snippets import consumer, manifest

from skyflowctl.operations.consumer_manifest.write import FAMILIES, SnippetOptions, write_snippet

pytestmark = [pytest.mark.slow, pytest.mark.needs("go"), pytest.mark.timeout(300)]
COMPOSE_FILE = Path(__file__).parents[2] / "examples" / "docker-compose.yml"


@pytest.fixture(scope="module")
def compose() -> Draft7Validator:
    folder = module_folder("github.com/compose-spec/compose-go/v2@v2.8.1")
    return Draft7Validator(json.loads((folder / "schema" / "compose-spec.json").read_text()))


def test_the_example_s_compose_file_is_what_the_specification_allows(compose: Draft7Validator):
    compose.validate(yaml.safe_load(COMPOSE_FILE.read_text()))


def test_the_specification_refuses_what_it_does_not_know(compose: Draft7Validator):
    wrong = yaml.safe_load(COMPOSE_FILE.read_text())
    wrong["services"]["init"]["depend_on"] = {}
    with pytest.raises(ValidationError, match="depend_on"):
        compose.validate(wrong)


@pytest.fixture(scope="module")
def resources() -> dict[tuple[str, str], Draft7Validator]:
    """A validator for each version of each resource of external-secrets."""
    folder = module_folder("github.com/external-secrets/external-secrets@v1.3.2")
    found = {}
    for path in sorted((folder / "config" / "crds" / "bases").glob("*.yaml")):
        resource = yaml.safe_load(path.read_text())
        if resource["kind"] != "CustomResourceDefinition":
            continue
        spec = resource["spec"]
        for version in spec["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            name = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            found[name] = Draft7Validator(schema)
    return found


def closed(schema: Any) -> Any:
    """Refuse unknown fields, which a Kubernetes server would drop in silence."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    is_object = isinstance(made.get("properties"), dict) and made.get("type") == "object"
    if is_object and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def snippet(kind: str, ctx: str) -> list[dict[str, Any]]:
    options = SnippetOptions("eso", address="https://bao.shop.example:8200", ctx=ctx)
    made = write_snippet(manifest(), consumer(kind), options)
    # The resources refuse a blank that was forgotten: fill them in, as a person does.
    filled = re.sub("FILL_IN_[A-Z_]+", "filled-in", made.text)
    return list(yaml.safe_load_all(filled))


@pytest.mark.parametrize("ctx", ["", "order:42"])
@pytest.mark.parametrize("kind", FAMILIES["eso"].types)
def test_objects_of_external_secrets_are_what_its_resources_allow(
    kind: str, ctx: str, resources: dict[tuple[str, str], Draft7Validator]
):
    objects = snippet(kind, ctx)
    assert objects
    for one in objects:
        # The object's metadata is Kubernetes' own, and open in the resources.
        validator = resources[one["apiVersion"], one["kind"]]
        validator.validate({**one, "metadata": {}})
        wrong = copy.deepcopy(one)
        wrong["metadata"] = {}
        wrong["spec"]["refreshIntervall"] = "45m"
        with pytest.raises(ValidationError, match="refreshIntervall"):
            validator.validate(wrong)
