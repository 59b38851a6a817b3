"""``python -m skyflowctl`` is the same command as ``skyflowctl``."""

from skyflowctl.cli.main import start

if __name__ == "__main__":
    start()
