"""go-plugin's own services: broker, standard streams, shutdown, health, multiplexing."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from grpclib.const import Cardinality
from grpclib.server import Stream

from skyflowctl.plugin.broker import Broker
from skyflowctl.plugin.messages import message_type
from skyflowctl.plugin.transport import Service

_SERVING = 1

_Empty = message_type("Empty")
_ConnInfo = message_type("ConnInfo")


def control_services(
    broker: Broker, *, shared: bool, on_shutdown: Callable[[], None]
) -> list[Service]:
    """Return the services of every go-plugin server.

    Args:
        broker: gets the announced addresses.
        shared: whether one process may serve several mounts.
        on_shutdown: called right after the answer to the host's Shutdown.
    """
    return [
        _broker_service(broker),
        _stdio_service(),
        _controller_service(on_shutdown),
        _health_service(),
        _multiplexing_service(shared=shared),
    ]


def _broker_service(broker: Broker) -> Service:
    async def start_stream(stream: Stream[Any, Any]) -> None:
        await stream.send_initial_metadata()
        async for info in stream:
            broker.announce(info)

    service = Service("plugin.GRPCBroker")
    service.stream("StartStream", start_stream, _ConnInfo, _ConnInfo, Cardinality.STREAM_STREAM)
    return service


def _stdio_service() -> Service:
    async def stream_stdio(stream: Stream[Any, Any]) -> None:
        # Sends nothing: logs go to standard error. The host keeps the call open.
        await stream.recv_message()
        await asyncio.get_running_loop().create_future()

    service = Service("plugin.GRPCStdio")
    service.stream(
        "StreamStdio", stream_stdio, _Empty, message_type("StdioData"), Cardinality.UNARY_STREAM
    )
    return service


def _controller_service(on_shutdown: Callable[[], None]) -> Service:
    async def shutdown(stream: Stream[Any, Any]) -> None:
        await stream.recv_message()
        await stream.send_message(_Empty())
        await stream.send_trailing_metadata()
        on_shutdown()

    service = Service("plugin.GRPCController")
    service.stream("Shutdown", shutdown, _Empty, _Empty, Cardinality.UNARY_UNARY)
    return service


def _health_service() -> Service:
    reply_type = message_type("HealthCheckReply")

    async def check(_message: Any, _metadata: Mapping[str, str]) -> Any:
        return reply_type(status=_SERVING)

    service = Service("grpc.health.v1.Health")
    service.unary("Check", check, _Empty, reply_type)
    return service


def _multiplexing_service(*, shared: bool) -> Service:
    reply_type = message_type("MultiplexingSupportReply")

    async def support(_message: Any, _metadata: Mapping[str, str]) -> Any:
        return reply_type(supported=shared)

    service = Service("pluginutil.multiplexing.PluginMultiplexing")
    service.unary("MultiplexingSupport", support, _Empty, reply_type)
    return service
