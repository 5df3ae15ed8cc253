"""From the store to batches: where chunks lie, crops and flips, the loader."""
