"""The file format of a prepared set: a JSON header and SQLite shards of JPEG pictures."""
