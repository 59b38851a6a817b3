"""Runs skyflowctl so that tokens are refreshed after a second, and programs stopped within one.

``python -m support.hasty -- exec …``
"""

from __future__ import annotations

import sys

from skyflowctl.cli import main
from skyflowctl.cli.commands.exec import supervise
from skyflowctl.operations import keep_token


def run() -> None:
    keep_token._PART, keep_token._SPREAD = 1 / 3600, 0.0
    supervise._STOP_SECONDS = 1.0
    sys.argv = ["skyflowctl", *sys.argv[sys.argv.index("--") + 1 :]]
    main.main()


if __name__ == "__main__":
    run()
