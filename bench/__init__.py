"""Benchmarks: `make bench` runs them all on a cluster of their own and prints a table.

Machines of a kind differ, and one machine drifts; so what matters is a ratio to something measured in the same run.
"""
