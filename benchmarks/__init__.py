"""Side-by-side timings: `python -m benchmarks.NAME --json FILE`."""
