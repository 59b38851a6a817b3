"""Reads the server's audit log: who asked for which token, and what is unusual."""
