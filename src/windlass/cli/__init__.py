"""The command line and the composition roots of every role."""
