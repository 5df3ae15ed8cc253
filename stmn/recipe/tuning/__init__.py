"""Tuning: trials of a training with different values of its options, judged on validation videos."""
