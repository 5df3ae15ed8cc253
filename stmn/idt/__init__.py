"""Hand-crafted motion features with a linear SVM, to be fused with network scores (section 5.4)."""
