"""The version of this package. A file of its own, so that no file needs the package's `__init__` for it."""

__version__ = "0.1.0"
