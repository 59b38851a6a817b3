"""go-plugin's own services: broker, standard streams, shutdown, health, multiplexing."""

from collections.abc import Callable, Mapping
from typing import Any

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
    service = Service("plugin.GRPCBroker")
    service.listen("StartStream", broker.announce, _ConnInfo, stays=False)
    return service


def _stdio_service() -> Service:
    # Sends nothing: logs go to standard error. The host keeps the call open.
    service = Service("plugin.GRPCStdio")
    service.listen("StreamStdio", lambda _message: None, _Empty, stays=True)
    return service


def _controller_service(on_shutdown: Callable[[], None]) -> Service:
    async def shutdown(_message: Any, _metadata: Mapping[str, str]) -> Any:
        return _Empty()

    service = Service("plugin.GRPCController")
    service.unary("Shutdown", shutdown, _Empty, afterwards=on_shutdown)
    return service


def _health_service() -> Service:
    reply_type = message_type("HealthCheckReply")

    async def check(_message: Any, _metadata: Mapping[str, str]) -> Any:
        return reply_type(status=_SERVING)

    service = Service("grpc.health.v1.Health")
    service.unary("Check", check, _Empty)
    return service


def _multiplexing_service(*, shared: bool) -> Service:
    reply_type = message_type("MultiplexingSupportReply")

    async def support(_message: Any, _metadata: Mapping[str, str]) -> Any:
        return reply_type(supported=shared)

    service = Service("pluginutil.multiplexing.PluginMultiplexing")
    service.unary("MultiplexingSupport", support, _Empty)
    return service
