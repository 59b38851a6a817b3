"""``skyflowctl plugin``: the engine's launcher and its catalog entry."""
