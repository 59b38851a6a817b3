"""``skyflowctl rotate`` and ``config rollback``."""
