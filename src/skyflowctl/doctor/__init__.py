"""Diagnosis of this machine and of how it reaches the server."""
