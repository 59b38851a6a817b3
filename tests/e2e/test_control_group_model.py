"""The model of a control group behaves as OpenBao does, transition by transition."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from support.approvals import Approvals, guarded
from support.parking import Parking
from support.scripted import ScriptedServer, scripted

pytestmark = [pytest.mark.real_server, pytest.mark.slow]
PATH = "skyflow/order/config"
Reply = tuple[int, dict[str, Any]]


class Server(Protocol):
    """A server with a control group on one path."""

    def login(self, name: str) -> str: ...

    def call(self, token: str, method: str, path: str, body: object = None) -> Reply: ...

    def approve(self, accessor: str) -> None: ...

    def state(self, accessor: str) -> Reply: ...

    def write_past(self, text: str) -> None: ...

    def read(self) -> dict[str, Any]: ...


@dataclass
class Real:
    place: Approvals

    def login(self, name: str) -> str:
        return self.place.operator(guarded(PATH), name=name)

    def call(self, token: str, method: str, path: str, body: object = None) -> Reply:
        return self.place.api(method, path, body, token=token)

    def approve(self, accessor: str) -> None:
        self.place.approve(accessor)

    def state(self, accessor: str) -> Reply:
        return self.place.request(accessor)

    def write_past(self, text: str) -> None:
        assert self.place.api("POST", PATH, {"description": text})[0] == 200

    def read(self) -> dict[str, Any]:
        return self.place.config()


@dataclass
class Model:
    server: ScriptedServer
    parking: Parking = field(default_factory=Parking)

    def __post_init__(self) -> None:
        self.server.script = self.parking
        self.parking.put(PATH, {"description": "first"})

    def login(self, name: str) -> str:
        return f"login of {name}"

    def call(self, token: str, method: str, path: str, body: object = None) -> Reply:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.server.address}/v1/{path}", content, {"X-Vault-Token": token}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                raw = reply.read()
                return reply.status, json.loads(raw) if raw else {}
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def approve(self, accessor: str) -> None:
        self.call("approver", "POST", "sys/control-group/authorize", {"accessor": accessor})

    def state(self, accessor: str) -> Reply:
        return self.call("approver", "POST", "sys/control-group/request", {"accessor": accessor})

    def write_past(self, text: str) -> None:
        assert self.parking.put(PATH, {"description": text}).status == 200

    def read(self) -> dict[str, Any]:
        return self.parking.objects[PATH]


@pytest.fixture(params=["real", "model"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "real":
        place: Approvals = request.getfixturevalue("approvals")
        yield Real(place)
        place.withdraw_all()
        return
    with scripted() as running:
        yield Model(running)


@dataclass
class Request:
    """A write that was sent, and what the server answered."""

    server: Server
    login: str
    answer: Reply

    @property
    def info(self) -> dict[str, Any]:
        return self.answer[1]["wrap_info"]

    def unwrap(self, login: str = "") -> Reply:
        body = {"token": self.info["token"]}
        return self.server.call(login or self.login, "POST", "sys/wrapping/unwrap", body)

    def approve(self) -> None:
        self.server.approve(self.info["accessor"])

    def approved(self) -> bool | int:
        """Whether it is approved; where it is gone, the status that says so."""
        status, body = self.server.state(self.info["accessor"])
        return body["data"]["approved"] if status == 200 else status

    def delivers(self) -> bool:
        body = {"token": self.info["token"]}
        return self.server.call(self.login, "POST", "sys/wrapping/lookup", body)[0] == 200


def sent(server: Server, text: str, **more: Any) -> Request:
    login = server.login("ana")
    return Request(server, login, server.call(login, "POST", PATH, {"description": text, **more}))


def test_a_guarded_write_is_parked(server: Server) -> None:
    before = server.read()["version"]
    one = sent(server, "parked")
    status, body = one.answer
    assert (status, body["data"], body["wrap_info"]["ttl"]) == (200, None, 3600)
    assert (one.approved(), one.delivers()) == (False, False)
    seen = server.state(one.info["accessor"])[1]["data"]
    assert (seen["request_path"], seen["request_data"]) == (PATH, {"description": "parked"})
    assert server.read()["version"] == before


def test_an_approval_alone_runs_nothing(server: Server) -> None:
    before = server.read()["version"]
    one = sent(server, "authorised")
    one.approve()
    assert (one.approved(), one.delivers()) == (True, True)
    assert server.read()["version"] == before
    again = server.call(one.login, "POST", PATH, {"description": "authorised"})
    assert again[1]["wrap_info"]["accessor"] != one.info["accessor"]  # parked once more
    assert server.read()["version"] == before


def test_an_early_unwrap_is_refused_and_harms_nothing(server: Server) -> None:
    before = server.read()["version"]
    one = sent(server, "early")
    assert one.unwrap()[0] == 400
    assert (one.approved(), server.read()["version"]) == (False, before)
    one.approve()
    assert one.unwrap()[0] == 200
    assert server.read()["description"] == "early"


def test_each_unwrap_runs_the_write_again(server: Server) -> None:
    before = server.read()["version"]
    one = sent(server, "twice")
    one.approve()
    for number in (1, 2):
        status, body = one.unwrap()
        assert (status, body["data"]["version"]) == (200, before + number)
    assert one.approved() is True


def test_another_identity_may_unwrap_it(server: Server) -> None:
    before = server.read()["version"]
    one = sent(server, "other")
    one.approve()
    assert one.unwrap(server.login("bea"))[0] == 200
    assert one.server.call(one.info["token"], "POST", "sys/wrapping/unwrap")[0] == 200
    assert server.read()["version"] == before + 2


def test_a_dead_requester_runs_nothing(server: Server) -> None:
    before = server.read()["version"]
    one = sent(server, "dead")
    one.approve()
    assert server.call(one.login, "POST", "auth/token/revoke-self")[0] == 204
    assert (one.unwrap()[0], one.unwrap(server.login("bea"))[0]) == (403, 403)
    assert server.read()["version"] == before


def test_a_cas_that_has_moved_is_refused_at_the_unwrap(server: Server) -> None:
    one = sent(server, "late", cas=server.read()["version"])
    one.approve()
    server.write_past("moved")
    assert one.unwrap()[0] == 409
    assert server.read()["description"] == "moved"


@pytest.mark.parametrize("approved", [False, True])
def test_a_revoked_request_is_gone(server: Server, approved: bool) -> None:
    before = server.read()["version"]
    one = sent(server, "revoked")
    if approved:
        one.approve()
    assert server.call(one.info["token"], "POST", "auth/token/revoke-self")[0] == 204
    assert (one.approved(), one.delivers(), one.unwrap()[0]) == (400, False, 400)
    assert server.read()["version"] == before
