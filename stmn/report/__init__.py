"""HTML pages: what was run, how well it did, and evaluations side by side."""
