"""Ports for servers of tests and benchmarks."""

import random
import socket

FIRST, LAST = 15_000, 30_000
"""Below those that the kernel gives to whoever connects, of whom one may have a port before its server does."""


def free_port() -> int:
    """One of the loopback address that nobody listens on now."""
    while True:
        port = random.SystemRandom().randint(FIRST, LAST)  # whatever seed a test has set
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
