"""The architecture's own tests: what the design promises of the code, the schema and the documents."""
