"""The chain of entries: what happened, in order, for ever. SQLite on one machine; other backends keep the two methods."""
