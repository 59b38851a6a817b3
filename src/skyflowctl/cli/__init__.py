"""The command line: parses arguments, prints text or JSON. Only here: typer and rich."""
