"""``mounts.yaml``: reading with positions, checking, frozen values. Only here: yaml, jsonschema."""
