"""Windlass: a distributed job scheduler for containers."""

__version__ = "0.2.0"
