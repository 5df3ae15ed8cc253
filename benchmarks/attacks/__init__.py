"""Attacks on `stmn`: what `python -m benchmarks.torture` tries."""
