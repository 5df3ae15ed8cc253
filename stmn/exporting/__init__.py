"""Export a model to a file of another format, which is checked against the network before it gets its final name."""
