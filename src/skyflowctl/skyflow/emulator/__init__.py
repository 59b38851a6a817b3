"""A Skyflow token service of our own: strict, for dry runs, tests and the dev stack.

:class:`InProcessTokenService` works without sockets; ``python -m
skyflowctl.skyflow.emulator`` serves HTTPS with a control API and a data plane. This
module imports no server, so that a dry run starts fast.
"""

from skyflowctl.skyflow.emulator.in_process import InProcessTokenService
from skyflowctl.skyflow.emulator.state import EmulatorState

__all__ = ["EmulatorState", "InProcessTokenService"]
