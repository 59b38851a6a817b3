"""``python -m skyflowctl.skyflow.emulator``: run the emulator in the foreground."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from skyflowctl.skyflow.emulator.server import ServerSettings, serve


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal ends it; return the exit code."""
    try:
        asyncio.run(serve(_settings(argv)))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"skyflow emulator: {error}\n")
        return 1
    return 0


def _settings(argv: Sequence[str] | None) -> ServerSettings:
    parser = argparse.ArgumentParser(
        prog="python -m skyflowctl.skyflow.emulator",
        description="A strict Skyflow token service for development and tests.",
    )
    parser.add_argument("--state-dir", type=Path, required=True, help="folder of its own (0700)")
    parser.add_argument("--cert", type=Path, required=True, help="certificate, PEM")
    parser.add_argument("--key", type=Path, required=True, help="the certificate's key, PEM")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--port", type=int, default=0, help="0: a free one; Node and Java clients need 443"
    )
    parser.add_argument("--name", default="127.0.0.1", help="host name in generated credentials")
    parser.add_argument(
        "--operator-token-file",
        type=Path,
        help="holds the bearer token that opens the Management API; without it none does",
    )
    parser.add_argument("--account-id", default="", help="X-SKYFLOW-ACCOUNT-ID of such calls")
    found = parser.parse_args(argv)
    return ServerSettings(
        state_dir=found.state_dir,
        certificate=found.cert,
        private_key=found.key,
        host=found.host,
        port=found.port,
        name=found.name,
        operator_token_file=found.operator_token_file,
        account_id=found.account_id,
    )


if __name__ == "__main__":
    sys.exit(main())
