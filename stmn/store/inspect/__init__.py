"""Look at a prepared set: check, statistics, files, one picture."""
