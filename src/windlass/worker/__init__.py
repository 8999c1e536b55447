"""The agent of one node: takes launches, runs attempts through a driver, reports what it saw."""
