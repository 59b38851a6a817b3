"""A field or path of the engine is known everywhere: read, compared after a lost reply, audited."""

from __future__ import annotations

import pytest

from skyflowctl.audit.entries import LoggedRequest
from skyflowctl.audit.recogniser import Recogniser
from skyflowctl.engine.contract import MemoryStorage
from skyflowctl.engine.engine import Engine
from skyflowctl.engine.fields import Field, FieldType
from skyflowctl.engine.routing import Operation, Route
from skyflowctl.skyflow.http.on_demand import TokenServiceOnDemand
from skyflowctl.vault.decode import config_equals, decode_live_config, decode_live_role, role_equals

ROUTES = Engine(MemoryStorage(), TokenServiceOnDemand())._router.routes  # noqa: SLF001
# Not stored as they are sent: a credential is compared by its identity, a rotation by its id.
SENT_ONLY = frozenset({"credentials_json", "credentials_file_path", "rotation_id", "rotation_to",
    "rotation_keys", "allow_revoked_key", "cas", "validate_credentials", "force"})  # fmt: skip
SAMPLES = {
    FieldType.TEXT: ("a", "b"),
    FieldType.TEXTS: (["a"], ["b"]),
    FieldType.DURATION: (60, 61),
}


def stored(template: str) -> list[Field]:
    (route,) = (one for one in ROUTES if one.template == template)
    return [one for one in route.actions[Operation.UPDATE].fields if one.name not in SENT_ONLY]


def samples(field: Field) -> tuple[object, object]:
    return SAMPLES.get(field.kind, (True, False))


@pytest.mark.parametrize("field", stored("config"), ids=lambda one: one.name)
def test_a_config_field_is_read_and_compared(field: Field):
    sent, other = samples(field)
    live = decode_live_config({field.name: sent})
    assert config_equals(live, {field.name: sent})
    assert not config_equals(live, {field.name: other})


@pytest.mark.parametrize("field", stored("roles/{name}"), ids=lambda one: one.name)
def test_a_role_field_is_read_and_compared(field: Field):
    sent, other = samples(field)
    live = decode_live_role("r", {field.name: sent})
    assert role_equals(live, {field.name: sent})
    assert not role_equals(live, {field.name: other})


@pytest.mark.parametrize("route", ROUTES, ids=lambda one: one.template)
def test_the_audit_knows_a_path_without_its_mounts_type(route: Route):
    path = "skyflow/order/" + route.template.replace(f"{{{route.variable}}}", "a")
    assert Recogniser(["skyflow"]).target(LoggedRequest(path=path)) is not None
