"""``skyflowctl config``: show, change, verify, and cut off."""
