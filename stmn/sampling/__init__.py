"""From the store to batches: positions in time, crops and flips, the loader."""
