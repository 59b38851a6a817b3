"""Manifest and live state in, plan out. Pure: no I/O, no clock."""
