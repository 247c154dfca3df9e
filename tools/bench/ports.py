"""TCP ports of loopback for a bench, a rig or a test."""

from __future__ import annotations

import random
import socket

HOST = "127.0.0.1"

FIRST_PORT, LAST_PORT = 20_000, 31_999
"""Below the ports that Linux gives to outgoing connections (net.ipv4.ip_local_port_range: 32768–60999).
The system may lend a port of that range to any client between the choice of the port and its use."""

_chosen: set[int] = set()


def is_free(port: int) -> bool:
    """Whether a TCP port of the loopback interface can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free now, and that this process has not chosen before.

    Raises OSError if there is none left."""
    candidates = [port for port in range(FIRST_PORT, LAST_PORT + 1) if port not in _chosen]
    random.SystemRandom().shuffle(candidates)
    for port in candidates:
        if is_free(port):
            _chosen.add(port)
            return port
    raise OSError(f"no TCP port of {FIRST_PORT}-{LAST_PORT} is free")
