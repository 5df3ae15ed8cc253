"""Where videos, class names, groups and splits come from."""
