"""The version of this package, for records and for whoever must have the same one."""

__version__ = "0.1.0"
