"""Takes one connection, counts and hashes what comes, answers with the digest."""

import hashlib
import socket
import sys

with socket.create_server(("", int(sys.argv[1]))) as server:
    print(f"listening as {socket.gethostname()} on port {sys.argv[1]}", flush=True)
    connection, peer = server.accept()
    with connection:
        digest, count = hashlib.sha256(), 0
        while data := connection.recv(1 << 20):
            digest.update(data)
            count += len(data)
        connection.sendall(digest.hexdigest().encode())
    print(f"received {count} bytes from {peer[0]}")
