"""The format of a prepared set: header, shards, pictures."""
