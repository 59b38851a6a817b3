"""Signals for operators; a no-op unless it is configured."""
