"""A job seen from outside: `capture` looks, `procfs` and `calls` read /proc, `waits` tells who waits for whom."""
