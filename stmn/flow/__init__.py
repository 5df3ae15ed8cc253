"""Optical flow: estimators behind one contract, and the 8-bit quantisation of the store."""
