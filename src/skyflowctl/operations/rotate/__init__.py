"""Rotates, previews, rolls back and retires credentials of several mounts."""
