"""The Python SDK, which the command line uses too."""
