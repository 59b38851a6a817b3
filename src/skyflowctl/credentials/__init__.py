"""Credentials: what they are, where they are referenced, and how one is judged."""
