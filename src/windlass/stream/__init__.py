"""The doorbell and the belt. The only package that knows key names and messages."""
