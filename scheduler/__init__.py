"""Decides, remembers, supervises: the daemon `jobsd` and its API. Pipeline: scheduler/README.md."""
