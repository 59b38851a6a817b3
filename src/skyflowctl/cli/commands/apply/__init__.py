"""``skyflowctl apply`` and its dry run."""
