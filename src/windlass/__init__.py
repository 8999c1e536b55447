"""Windlass: a distributed job scheduler for containers."""

__version__ = "0.3.0.dev0"
