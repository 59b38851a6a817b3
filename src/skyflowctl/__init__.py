"""skyflowctl: short-lived Skyflow tokens through OpenBao or Vault.

One package, both halves: the operator's command line (``skyflowctl.cli``) and the
secrets engine (``skyflowctl.engine``), which a stock server runs as an external
plugin (``skyflowctl.plugin``) and a dry run hosts in process (``skyflowctl.vault``).
ARCHITECTURE.md follows one ``apply`` and one ``bao read`` through the code.
"""

from skyflowctl.version import __version__

__all__ = ["__version__"]
