"""Ports that benches and tests choose."""

from __future__ import annotations

import socket
from pathlib import Path

from tools.bench.ports import FIRST_PORT, HOST, LAST_PORT, free_port, is_free


def test_a_chosen_port_is_never_lent_to_an_outgoing_connection() -> None:
    lent = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    assert int(lent[0]) > LAST_PORT or int(lent[1]) < FIRST_PORT


def test_no_port_is_chosen_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(FIRST_PORT <= port <= LAST_PORT and is_free(port) for port in ports)


def test_a_port_that_is_listened_on_is_not_free() -> None:
    port = free_port()
    with socket.create_server((HOST, port)):
        assert not is_free(port)
    assert is_free(port)
