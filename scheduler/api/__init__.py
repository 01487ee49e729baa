"""The HTTP API on the daemon's Unix socket: who asks (peer), what they may (access), the routes, the server.

Nothing here decides or remembers: a route checks, asks the writer, the reader or the node, and answers.
"""
