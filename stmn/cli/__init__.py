"""The command line: reads flags, calls a stage, prints. Only here: typer and rich."""
