"""Turn TOML and flags into runs.

`load` reads a recipe and finds its mistakes; `plan` resolves one stage, `execute` runs it, `chain` runs a recipe.
"""
