"""Starting weights: timm, torchvision, MatConvNet."""
