"""Credentials: their model, their references, and their checks."""
