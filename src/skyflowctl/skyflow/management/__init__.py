"""Skyflow's Management API: the keys of service accounts."""
