"""Improved dense trajectories: descriptors, encoding and SVM, fused with network scores (section 5.4)."""
