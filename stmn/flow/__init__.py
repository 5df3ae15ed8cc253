"""Optical flow: estimators with one contract, 8-bit quantisation, and flow as pictures."""
