"""One file per API path of the engine: its fields, its help and its handlers."""
