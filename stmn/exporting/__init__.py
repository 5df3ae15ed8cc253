"""Export: one file per format, each checked against the network before it gets its name."""
