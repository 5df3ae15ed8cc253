"""Data sets: where videos, classes, groups and splits come from."""
