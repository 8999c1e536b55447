"""The leader's duties: one file and one run_once() each."""
