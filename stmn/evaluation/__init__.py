"""How models are tested: protocols, forward passes, scores files, metrics and comparisons."""
