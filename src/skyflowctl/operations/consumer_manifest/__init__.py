"""Writes the configuration with which an application's platform reads a role's tokens."""
