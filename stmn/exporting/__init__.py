"""Export a model to a file of another format, checked against the network before it gets its name."""
