"""Messages, their translation, and the instances behind them; no server, no sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyflowctl.engine.contract import (
    EngineError,
    EngineReply,
    EngineRequest,
    MemoryStorage,
    Operation,
    StorageError,
)
from skyflowctl.plugin.backend import Backend
from skyflowctl.plugin.broker import Broker, NoStorageError
from skyflowctl.plugin.life import Life, sweep_sockets
from skyflowctl.plugin.messages import message_type
from skyflowctl.plugin.translate import (
    constant_reply,
    from_error,
    from_existence_error,
    from_reply,
    to_request,
)

READONLY = "cannot write to readonly storage"


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _text(number: int, value: str) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value.encode())) + value.encode()


def _nested(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def test_a_request_is_read_by_the_wires_field_numbers():
    header = _nested(8, _text(1, "Application-Source") + _nested(2, _text(1, "order")))
    raw = b"".join(
        [
            _text(1, "id-1"),
            _text(2, "cluster"),
            _text(3, "update"),
            _text(4, "creds/r1"),
            _text(5, '{"ctx": "a"}'),
            header,
            _text(9, "client-token"),
            _text(11, "approle-order"),
            _text(12, "skyflow/order/"),
            _text(17, "entity"),
        ]
    )
    args = message_type("HandleRequestArgs").FromString(_nested(2, raw))
    assert to_request(args.request) == EngineRequest(
        operation=Operation.UPDATE,
        path="creds/r1",
        data={"ctx": "a"},
        mount_point="skyflow/order/",
        request_id="id-1",
        display_name="approle-order",
        entity_id="entity",
        headers={"application-source": ("order",)},
    )


def test_replies_have_the_wires_field_numbers():
    good = from_reply(EngineReply({"a": 1}, ("mind",))).SerializeToString()
    assert good == _nested(1, _text(3, '{"a":1}') + _text(5, "mind"))
    coded = from_error(EngineError(503, "no")).SerializeToString()
    assert coded == _nested(2, b"\x08\x03" + _text(2, "no") + b"\x18" + _varint(503))


@pytest.mark.parametrize("operation", ["resolve-path", "rollback", "revoke"])
def test_constant_answers_are_empty(operation: str):
    assert constant_reply(operation).SerializeToString() == b""


@pytest.mark.parametrize("operation", ["renew", "patch", "alias-lookahead", ""])
def test_other_operations_are_unsupported(operation: str):
    assert constant_reply(operation).err.err_type == 5


@pytest.mark.parametrize("operation", list(Operation))
def test_the_engines_operations_reach_it(operation: str):
    assert constant_reply(operation) is None


@pytest.mark.parametrize(
    ("text", "data"), [("", {}), ("null", {}), ("{}", {}), ('{"a":1}', {"a": 1})]
)
def test_bodies(text: str, data: dict):
    message = message_type("Request")(operation="read", path="/x", data=text)
    assert to_request(message).data == data
    assert to_request(message).path == "x"


@pytest.mark.parametrize("text", ["[]", "1", "{", "[" * 100_000, '{"a":' + "1" * 5000 + "}"])
def test_a_body_that_is_no_object_is_a_400_without_its_text(text: str):
    with pytest.raises(EngineError) as caught:
        to_request(message_type("Request")(operation="read", data=text))
    assert caught.value.status == 400
    assert caught.value.message == "the request's body is not a JSON object"


@given(st.text())
def test_no_body_escapes_as_another_error(text: str):
    try:
        message = message_type("Request")(operation="read", data=text)
        assert isinstance(to_request(message).data, dict)
    except (EngineError, UnicodeEncodeError):
        pass


def test_data_is_never_an_empty_text():
    assert from_reply(EngineReply()).SerializeToString() == b""
    assert from_reply(EngineReply(None, ("mind",))).response.data == "null"
    assert from_reply(EngineReply({})).response.data == "{}"


def test_a_400_is_data_and_everything_else_is_not():
    assert json.loads(from_error(EngineError(400, "bad")).response.data) == {"error": "bad"}
    assert not from_error(EngineError(400, "bad")).HasField("err")
    for status in (403, 404, 409, 502, 503):
        reply = from_error(EngineError(status, "text"))
        assert (reply.err.err_type, reply.err.err_code, reply.err.err_msg) == (3, status, "text")
        assert not reply.HasField("response")


def test_a_storage_error_passes_word_for_word():
    for reply in (from_error(StorageError(READONLY)), from_existence_error(StorageError(READONLY))):
        assert (reply.err.err_type, reply.err.err_msg) == (0, READONLY)


def test_a_lone_surrogate_in_an_error_does_not_break_the_reply():
    assert from_error(EngineError(502, "a\ud800b")).err.err_msg == "a?b"


class Engine:
    """Raises or returns what it is told to."""

    def __init__(self, storage) -> None:
        self.storage = storage
        self.result: object = EngineReply({"ok": True})
        self.closed = 0
        self.invalidated: list[str] = []

    async def handle(self, request: EngineRequest) -> EngineReply:
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    async def exists(self, request: EngineRequest) -> bool | None:
        return await self.handle(request)

    def invalidate(self, key: str) -> None:
        self.invalidated.append(key)

    def special_paths(self) -> tuple[str, ...]:
        return ("credentials/",)

    async def aclose(self) -> None:
        self.closed += 1


class ClosableStorage(MemoryStorage):
    closed = False

    def close(self) -> None:
        self.closed = True


class Host:
    """A backend with one set-up mount, called as the server calls it."""

    def __init__(self) -> None:
        self.engines: list[Engine] = []
        self.backend = Backend(self._make, self._connect)
        self.ways = {
            path.decode().rpartition("/")[2]: method
            for service in self.backend.services()
            for path, method in service.methods.items()
        }

    def _make(self, storage, options) -> Engine:
        self.engines.append(Engine(storage))
        return self.engines[-1]

    async def _connect(self, broker_id: int) -> ClosableStorage:
        if broker_id == 404:
            raise NoStorageError("the server announced no socket")
        return ClosableStorage()

    async def setup(self, mount: str, broker_id: int = 1):
        args = message_type("SetupArgs")(broker_id=broker_id)
        return await self.backend.setup(args, {"multiplex_id": mount})

    async def ask(self, mount: str, operation: str = "read"):
        request = message_type("Request")(operation=operation, path="x")
        args = message_type("HandleRequestArgs")(request=request)
        method = self.ways["HandleRequest"]
        return method.quick(args) or await method.answer(args, {"multiplex_id": mount})

    async def check(self, mount: str):
        request = message_type("Request")(operation="update", path="x")
        args = message_type("ExistenceCheckArgs")(request=request)
        return await self.backend.check(args, {"multiplex_id": mount})

    async def clean(self, mount: str) -> None:
        await self.backend.clean_up(None, {"multiplex_id": mount})


def test_mounts_are_kept_apart_and_cleaned_more_than_once():
    async def story() -> None:
        host = Host()
        assert (await host.setup("a")).err == ""
        assert (await host.setup("b")).err == ""
        host.engines[1].result = EngineReply({"b": 1})
        assert json.loads((await host.ask("b")).response.data) == {"b": 1}
        assert json.loads((await host.ask("a")).response.data) == {"ok": True}
        for _ in range(2):
            await host.clean("a")
        assert (host.backend.mounts, host.engines[0].closed) == (1, 1)
        assert host.engines[0].storage.closed
        assert (await host.ask("a")).err.err_code == 503
        assert json.loads((await host.ask("b")).response.data) == {"b": 1}

    asyncio.run(story())


def test_a_second_set_up_replaces_the_instance():
    async def story() -> None:
        host = Host()
        await host.setup("a")
        await host.setup("a")
        assert (host.backend.mounts, host.engines[0].closed, host.engines[1].closed) == (1, 1, 0)

    asyncio.run(story())


def test_a_mount_without_storage_says_so_and_is_not_kept():
    async def story() -> None:
        host = Host()
        assert (await host.setup("a", 404)).err == "skyflow: the server announced no socket"
        assert host.backend.mounts == 0

    asyncio.run(story())


def test_constant_answers_need_no_instance():
    async def story() -> None:
        host = Host()
        for operation in ("resolve-path", "rollback"):
            assert (await host.ask("absent", operation)).SerializeToString() == b""

    asyncio.run(story())


def test_unexpected_errors_become_replies_without_their_text(caplog: pytest.LogCaptureFixture):
    async def story() -> None:
        host = Host()
        await host.setup("a")
        for error in (RuntimeError("private"), ValueError("private"), TimeoutError("private")):
            host.engines[0].result = error
            for reply in (await host.ask("a"), await host.check("a")):
                assert reply.err.err_type == 0
                assert "private" not in str(reply)
                assert reply.err.err_msg

    asyncio.run(story())
    assert len(caplog.records) == 6


@pytest.mark.parametrize(
    ("result", "found", "exists"),
    [
        (True, True, True),
        (False, True, False),
        (None, False, False),
        (EngineError(400, "x"), False, False),
    ],
)
def test_existence_checks(result: object, found: bool, exists: bool):
    async def story() -> None:
        host = Host()
        await host.setup("a")
        host.engines[0].result = result
        reply = await host.check("a")
        assert (reply.check_found, reply.exists, reply.HasField("err")) == (found, exists, False)

    asyncio.run(story())


def test_a_cancelled_call_is_not_turned_into_a_reply():
    async def story() -> None:
        host = Host()
        await host.setup("a")
        host.engines[0].result = asyncio.CancelledError()
        with pytest.raises(asyncio.CancelledError):
            await host.ask("a")

    asyncio.run(story())


def test_invalidation_reaches_the_mounts_engine_only():
    async def story() -> None:
        host = Host()
        await host.setup("a")
        await host.setup("b")
        args = message_type("InvalidateKeyArgs")(key="config")
        await host.backend._invalidate(args, {"multiplex_id": "b"})
        await host.backend._invalidate(args, {"multiplex_id": "absent"})
        assert [engine.invalidated for engine in host.engines] == [[], ["config"]]

    asyncio.run(story())


def test_special_paths_come_from_the_engine():
    async def story() -> None:
        host = Host()
        await host.setup("a")
        reply = await host.backend._special_paths(None, {"multiplex_id": "a"})
        assert reply.SerializeToString() == _nested(1, _text(4, "credentials/"))

    asyncio.run(story())


@pytest.mark.parametrize("announced_first", [True, False])
def test_the_broker_takes_either_order(announced_first: bool):
    async def story() -> None:
        broker = Broker()
        info = message_type("ConnInfo")(service_id=7, network="unix", address="/s/7")
        if announced_first:
            broker.announce(info)
            assert await broker.address(7) == "/s/7"
        else:
            waiting = asyncio.ensure_future(broker.address(7))
            await asyncio.sleep(0)
            broker.announce(info)
            assert await waiting == "/s/7"
        assert broker.known_sockets == {"/s/7"}

    asyncio.run(story())


def test_a_socket_that_is_never_announced_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("skyflowctl.plugin.broker._WAIT_SECONDS", 0.01)

    async def story() -> None:
        broker = Broker()
        broker.announce(message_type("ConnInfo")(service_id=7, network="tcp", address="x:1"))
        with pytest.raises(NoStorageError, match="TMPDIR"):
            await broker.address(7)

    asyncio.run(story())


def test_the_sweep_takes_only_sockets_of_dead_processes(tmp_path: Path):
    dead = _dead_pid()
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as gone:
        listening.bind(str(tmp_path / f"sky{dead}-used"))
        listening.listen()
        gone.bind(str(tmp_path / f"sky{dead}-gone"))
        (tmp_path / f"sky{os.getpid()}-mine").touch()
        (tmp_path / f"sky{dead}-file").touch()
        (tmp_path / "other").touch()
        gone.close()
        sweep_sockets(str(tmp_path))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"sky{dead}-used", f"sky{os.getpid()}-mine", f"sky{dead}-file", "other"}


def _dead_pid() -> int:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    return pid


class _Ended(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("case", ["orphan", "never connected", "no mount"])
def test_a_process_that_nobody_needs_ends(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "sky1-x"
    path.touch()
    for name in ("_CHECK_SECONDS", "_CONNECT_SECONDS", "_IDLE_SECONDS"):
        monkeypatch.setattr(f"skyflowctl.plugin.life.{name}", 0.01)
    if case == "orphan":
        monkeypatch.setattr("skyflowctl.plugin.life._CONNECT_SECONDS", 60)

    def exit_instead(_code: int) -> None:
        raise _Ended

    monkeypatch.setattr("os._exit", exit_instead)
    life = Life(str(path), lambda: 0)
    if case == "no mount":
        life.connected()
    if case == "orphan":
        monkeypatch.setattr("os.getppid", lambda: 1)
    with pytest.raises(_Ended):
        asyncio.run(asyncio.wait_for(life.watch(), 5))
    assert not path.exists()


def test_a_process_with_a_mount_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("_CHECK_SECONDS", "_IDLE_SECONDS"):
        monkeypatch.setattr(f"skyflowctl.plugin.life.{name}", 0.005)
    monkeypatch.setattr("os._exit", lambda _code: pytest.fail("it ended"))
    life = Life(str(tmp_path / "sky1-x"), lambda: 1)
    life.connected()
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(life.watch(), 0.1))
