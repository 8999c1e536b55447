"""Where a task may run: one filter, one score, one plan, and the words that explain it."""
