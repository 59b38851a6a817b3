"""Traces and metrics over OTLP; nothing of it runs unless the environment asks for it."""
