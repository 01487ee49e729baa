"""`jobs doctor`."""
