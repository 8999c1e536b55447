"""Traces and logs: what roles tell of their work, as a collector and a log reader get it."""
