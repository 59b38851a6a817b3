"""Results as tables, text and JSON. Nothing here decides anything."""
