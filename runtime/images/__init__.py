"""Images and writable layers: the store, the jailed unpacker, and what a job may write. docs/design/image-jail.md."""
