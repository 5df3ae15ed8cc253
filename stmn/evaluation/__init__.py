"""Protocols, scores, metrics, predictions and the report."""
