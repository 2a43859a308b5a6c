"""Ports of this machine that nobody listens at."""

import socket


def free_port() -> int:
    """One behind which another is free."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("", 0))
            try:
                other.bind(("", one.getsockname()[1] + 1))
            except OSError:
                continue
            return one.getsockname()[1]
