"""Carries out a plan in a sandbox, and verifies credentials without a write."""
