"""Drawing code of the data sets that render their own videos: one module per task, and shared parts."""
