"""Videos: where they come from, decoding, and writing."""
