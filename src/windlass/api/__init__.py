"""The HTTP face: problem+json errors, OpenAPI, one file per resource."""
