"""The chain of entries: what happened, in order. SQLite on one machine; other backends keep the two methods."""
