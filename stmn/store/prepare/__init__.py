"""Put videos into a prepared set, one at a time, and keep it up to date with its sources."""
