"""A transport whose requests may be parked: what it asks of its store, and in which namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.parking import Parking
from support.scripted import Answer, ScriptedServer, scripted

from skyflowctl.secret import Secret
from skyflowctl.vault.approving_transport import ApprovalPolicy, ApprovingTransport
from skyflowctl.vault.errors import GuardedError
from skyflowctl.vault.parked import PendingError
from skyflowctl.vault.pending_store import StoredRequest
from skyflowctl.vault.target import Target
from skyflowctl.vault.transport import Request

HEADER = "sys/config/auditing/request-headers/X-Skyflowctl-Run"
WRITES = ("m/config", "n/config", "m/roles/a")
ACCESS = (
    "sys/policies/acl/a.b",
    "sys/auth/approle",
    "sys/auth/team/approle/tune",
    "auth/team/approle/role/app",
    "kv/metadata/team/app",
)


class Store:
    """Keeps requests in memory, and counts."""

    kind = "file"

    def __init__(self) -> None:
        self.entries: list[StoredRequest] = []
        self.loads = self.changes = 0

    def load(self) -> list[StoredRequest]:
        self.loads += 1
        return list(self.entries)

    def change(self, change: Callable[[list[StoredRequest]], list[StoredRequest]]) -> None:
        self.changes += 1
        self.entries = change(self.entries)


@pytest.fixture
def parking() -> Parking:
    return Parking()


@pytest.fixture
def server(parking: Parking) -> Iterator[ScriptedServer]:
    with scripted(Answer()) as running:
        running.script = parking
        yield running


def transport(server: ScriptedServer, store: Store, namespace: str = "") -> ApprovingTransport:
    target = Target(server.address, namespace, Secret("login"), "flags")
    return ApprovingTransport(target, run_id="run", policy=ApprovalPolicy(lambda _: store))


def write(over: ApprovingTransport, path: str) -> None:
    over.send(Request("POST", path, body={"description": "d"}, idempotent=True))


def test_the_store_is_read_once_a_command_and_changed_for_each_parked_request(server):
    store = Store()
    first = transport(server, store)
    for path in WRITES:
        with pytest.raises(PendingError):
            write(first, path)
    first.close()
    assert (store.loads, store.changes, len(store.entries)) == (1, 3, 3)

    again = transport(server, store)
    for path in WRITES:
        with pytest.raises(PendingError):
            write(again, path)
    again.close()
    assert (store.loads, store.changes, len(store.entries)) == (2, 3, 3)


@pytest.mark.parametrize("path", ACCESS)
def test_writes_of_access_and_of_metadata_may_wait(server, path):
    store = Store()
    with pytest.raises(PendingError):
        write(transport(server, store), path)
    assert [one.path for one in store.entries] == [path]


@pytest.mark.parametrize(("name", "stays"), [("approle", False), ("userpass", True)])
def test_only_a_change_of_the_same_login_method_withdraws_its_request(server, parking, name, stays):
    """The server lists all login methods; another one is not about the request."""
    store = Store()
    listed = {"approle/": {"description": "a"}, "userpass/": {"description": "u"}}
    parking.objects["sys/auth"] = listed
    with pytest.raises(PendingError):
        write(transport(server, store), "sys/auth/approle/tune")
    parking.objects["sys/auth"] = {**listed, f"{name}/": {"description": "changed"}}
    parking.approve_all()
    if stays:
        write(transport(server, store), "sys/auth/approle/tune")
    else:
        with pytest.raises(GuardedError):
            write(transport(server, store), "sys/auth/approle/tune")
    assert store.entries == []


def test_an_approved_request_is_run_once_and_its_entry_is_removed(server, parking):
    store = Store()
    with pytest.raises(PendingError):
        write(transport(server, store), "m/config")
    parking.approve_all()
    write(transport(server, store), "m/config")
    assert (store.entries, store.loads) == ([], 2)
    assert [one.path for one in server.seen].count("/v1/sys/wrapping/unwrap") == 1


@pytest.mark.parametrize(("path", "namespace"), [("m/config", "team"), (HEADER, "")])
def test_a_request_is_asked_for_run_and_withdrawn_where_it_was_parked(
    server, parking, path, namespace
):
    """What belongs to the server alone is in the root, whatever namespace the command names."""
    store = Store()
    with pytest.raises(PendingError):
        write(transport(server, store, "team"), path)
    assert [one.namespace for one in store.entries] == [namespace]
    parking.approve_all()
    before = len(server.seen)
    write(transport(server, store, "team"), path)
    about = ("sys/control-group/request", "sys/wrapping/unwrap", "auth/token/revoke-self")
    asked = [
        (one.path.removeprefix("/v1/"), one.headers.get("x-vault-namespace", ""))
        for one in server.seen[before:]
        if one.path.removeprefix("/v1/") in about
    ]
    assert asked == [(one, namespace) for one in about]
    assert store.entries == []
