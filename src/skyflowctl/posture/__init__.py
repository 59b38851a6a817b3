"""Checks a server's security posture: frozen facts in, graded findings out, without I/O."""
