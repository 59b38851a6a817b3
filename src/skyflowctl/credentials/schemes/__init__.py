"""The kinds of references to secrets: one module a scheme, each with ``read``."""
