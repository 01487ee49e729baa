"""One module per group of verbs; each has `router(parts)`."""
