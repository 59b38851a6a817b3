"""``python -m skyflowctl.plugin``: the program that a server starts, usually by a launcher."""

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from skyflowctl.plugin.backend import EngineFactory
from skyflowctl.plugin.certificates import begin_certificate
from skyflowctl.plugin.handshake import HandshakeError, NotStartedByServerError, read_handshake
from skyflowctl.plugin.host import run
from skyflowctl.plugin.logs import install_logs
from skyflowctl.plugin.protection import protect_process, raise_file_limit
from skyflowctl.plugin.settings import ArgumentError, PluginSettings, parse_arguments
from skyflowctl.version import __version__

if TYPE_CHECKING:
    from skyflowctl.engine.observed import EngineTelemetry
    from skyflowctl.skyflow.http.pool import ConnectionPool
    from skyflowctl.skyflow.token_service import TokenService

_LOG = logging.getLogger("skyflowctl.plugin")


def engine_factory(settings: PluginSettings) -> EngineFactory:
    """Return the factory of engines; each mount has limits of its own."""
    from skyflowctl.clock import SystemClock
    from skyflowctl.engine.engine import Engine, EngineSettings
    from skyflowctl.skyflow.http.on_demand import TokenServiceOnDemand
    from skyflowctl.skyflow.token_uri import SKYFLOW_HOSTS

    engine_settings = EngineSettings(
        allowed_hosts=(settings.only_hosts or SKYFLOW_HOSTS) | settings.allow_hosts,
        credentials_directory=settings.credentials_directory,
        process=protect_process().to_json(),
        telemetry=_telemetry(),
    )
    clock = SystemClock()
    return lambda storage, options: Engine(
        storage, TokenServiceOnDemand(make=_token_service), engine_settings, clock, options
    )


def _telemetry() -> "EngineTelemetry | None":
    """Return the telemetry of this process; None, and no library of it loaded: it is off."""
    from skyflowctl.telemetry.switch import telemetry_is_on

    if not telemetry_is_on(os.environ):
        return None
    from skyflowctl.engine.observed import EngineTelemetry
    from skyflowctl.telemetry.start import start_telemetry

    started = start_telemetry("skyflow-plugin", __version__)
    return EngineTelemetry(started) if started else None


def _token_service() -> "TokenService":
    """Return the token service of a mount; all mounts share the connections."""
    from skyflowctl.skyflow.http.token_service import HttpTokenService

    return HttpTokenService(_connections(), shared=True)


@functools.cache
def _connections() -> "ConnectionPool":
    from skyflowctl.skyflow.http.pool import ConnectionPool

    return ConnectionPool()


def main(
    arguments: Sequence[str] | None = None,
    make_factory: Callable[[PluginSettings], EngineFactory] = engine_factory,
) -> int:
    """Run the plugin; returns only when it cannot start, with exit code 1."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    install_logs()
    raise_file_limit()
    try:
        settings = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        handshake = read_handshake(os.environ)
        certificate = begin_certificate()
        make_engine = make_factory(settings)
        run(handshake, certificate(), make_engine, shared=settings.shared)
    except NotStartedByServerError as error:
        sys.stderr.write(f"{error}\n")
    except (ArgumentError, HandshakeError) as error:
        _LOG.error("%s", error)
    except Exception as error:  # noqa: BLE001 - said in the form that a server's log shows
        _LOG.exception("the plugin could not start: %s", error)
    return 1


if __name__ == "__main__":
    sys.exit(main())
