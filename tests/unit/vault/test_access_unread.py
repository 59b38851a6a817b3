"""What a login may not read or list is recorded, and the rest is read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.gateways import Rig, memory_rig

from skyflowctl.vault.access_api import AccessApi, AccessNeeded
from skyflowctl.vault.errors import BadRequestError, ForbiddenError
from skyflowctl.vault.transport import Reply, Request, TransportWrapper


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = memory_rig()
    for name in ("ours", "theirs"):
        made.gateway.sys.access.write(f"sys/auth/{name}", {"type": "approle"})
        made.gateway.sys.access.write(f"auth/{name}/role/app", {"token_policies": ["mark"]})
    yield made
    made.gateway.close()


class Forbids(TransportWrapper):
    """Refuses the requests for one path."""

    def __init__(self, inner, path: str) -> None:
        super().__init__(inner)
        self.path = path

    def send(self, request: Request) -> Reply:
        if request.path == self.path:
            raise ForbiddenError("403", path=request.path)
        return super().send(request)


class Namespaced(TransportWrapper):
    """Answers lists of quotas as within a namespace (OpenBao 2.7.2)."""

    def send(self, request: Request) -> Reply:
        if request.path == "sys/quotas/rate-limit":
            raise BadRequestError(
                "400", messages=("operation only available in root namespace",), path=request.path
            )
        return super().send(request)


def test_a_namespace_has_no_quotas_and_a_prune_there_misses_none(rig):
    found = AccessApi(Namespaced(rig.transport)).read(NEEDED, 1, {})
    assert found.unread == {}


NEEDED = AccessNeeded(objects={"auth/theirs/role/app": "sys/auth/theirs"}, everything=True)


def test_a_method_whose_roles_may_not_be_listed_is_unread_and_the_others_are_read(rig):
    api = AccessApi(Forbids(rig.transport, "auth/theirs/role"))
    pruned = api.read(NEEDED, 1, {})
    assert set(pruned.login_roles) == {"auth/ours/role/app", "auth/theirs/role/app"}
    marked = api.read_marked(lambda _: True, 1)
    assert set(marked.login_roles) == {"auth/ours/role/app"}
    for found in (pruned, marked):
        assert set(found.unread) == {"auth/theirs/role/"}


def test_a_login_role_of_a_method_that_is_not_there_does_not_exist(rig):
    api = AccessApi(Forbids(rig.transport, "sys/auth"))
    needed = AccessNeeded(
        login_methods=True,
        objects={f"auth/{name}/role/app": f"sys/auth/{name}" for name in ("absent", "ours")},
    )
    found = api.read(needed, 1, {})
    assert set(found.login_roles) == {"auth/ours/role/app"}
    assert set(found.unread) == {"sys/auth"}
