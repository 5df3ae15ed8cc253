"""Pages about a prepared set, an evaluation and a model, served only to this machine: `stmn browse`."""
