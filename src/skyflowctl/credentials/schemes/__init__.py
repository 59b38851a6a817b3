"""The schemes of references to secrets: one module per scheme, each with ``read``."""
