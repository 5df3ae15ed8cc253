"""What the data sets that make their own videos draw: one module per task, and what tasks share."""
