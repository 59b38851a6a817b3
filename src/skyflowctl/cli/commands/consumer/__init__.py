"""``skyflowctl consumer``."""
