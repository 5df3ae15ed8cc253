"""What turns TOML and flags into runs: recipes, plans, execution."""
