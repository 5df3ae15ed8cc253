"""Starting weights from timm, torchvision and MatConvNet."""
