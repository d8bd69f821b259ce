"""Ports for servers of tests and benchmarks."""

import socket


def free_port() -> int:
    """One of the loopback address that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
