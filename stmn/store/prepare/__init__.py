"""One video into the store."""
