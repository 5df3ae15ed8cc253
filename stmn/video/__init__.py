"""Decoding and rendering video files with PyAV."""
