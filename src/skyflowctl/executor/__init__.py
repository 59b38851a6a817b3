"""Executes a plan: concurrently, in stages, resumable; reports events."""
