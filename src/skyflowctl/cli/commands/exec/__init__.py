"""``skyflowctl exec``: a program with a token in its environment."""
