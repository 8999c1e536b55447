"""Windlass: a distributed job scheduler for containers."""

__version__ = "0.1.0"
