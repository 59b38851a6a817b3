"""Carries a plan out: concurrent, in stages, resumable; reports events."""
