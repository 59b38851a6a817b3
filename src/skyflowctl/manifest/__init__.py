"""Reads and checks ``mounts.yaml``. Only this package uses yaml and jsonschema."""
