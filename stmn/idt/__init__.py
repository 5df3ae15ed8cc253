"""Hand-crafted motion features with linear SVMs, to be fused with network scores (section 5.4)."""
