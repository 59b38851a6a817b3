"""``plugin upgrade`` and ``plugin rollback``: another version of the engine, mount by mount."""
