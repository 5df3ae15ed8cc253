"""Tuning: trials of a training with other values of its options, judged on validation videos."""
