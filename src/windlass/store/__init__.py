"""The ledger. The only package that knows SQL."""
