"""Replacing a mount's credential without a failed request, and the ways back and out."""
