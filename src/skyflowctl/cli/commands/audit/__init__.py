"""``skyflowctl audit``: one module a command, and what they share."""
