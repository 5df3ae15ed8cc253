"""Pages about a prepared set, an evaluation and a model, shown by a server on this machine alone: `stmn browse`."""
