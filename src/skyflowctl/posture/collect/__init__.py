"""Collects the facts of a posture check from the server, as frozen values."""
