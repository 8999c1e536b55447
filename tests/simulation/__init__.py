"""Simulation: the real schedulers, workers and API paths, whole clusters of them, in one process on virtual time.

One number, the seed, decides everything that the real world leaves open: latencies, faults, the moments of both. So a
failure is replayed exactly by its seed. What is simulated is the world around the code: clocks, disks, PostgreSQL,
Redis, HTTP, containers. See docs/explanation/simulation.md.
"""
