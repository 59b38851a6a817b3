"""The command line: arguments in, text or JSON out. Only here: typer and rich."""
