"""``skyflowctl audit``: one module a command, and shared code."""
