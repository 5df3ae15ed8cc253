"""The packed data set: JPEG frames and flow fields in SQLite shards, one row per picture."""
