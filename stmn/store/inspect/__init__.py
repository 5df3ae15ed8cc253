"""Look at a prepared set: check it, measure it, show it, extract its pictures."""
