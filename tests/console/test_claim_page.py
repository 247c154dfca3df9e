"""The page of a claim code: its routes, the clients that it accepts, and its end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from edge_agent.console.screen.claim_page import CONNECTIONS, claim_page
from tools.bench.ports import free_port

CODE = "7KQ2M-XW4RT"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def page(port: int) -> Iterator[httpx.Client]:
    with (
        claim_page(port, "de") as show,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        show(CODE)
        yield client


def test_it_shows_the_code_while_there_is_one_and_ends_with_the_command(port: int) -> None:
    address = f"http://127.0.0.1:{port}/claim.json"
    with claim_page(port, "de") as show:
        assert httpx.get(address, trust_env=False).json() == {"code": None}
        show(CODE)
        assert httpx.get(address, trust_env=False).json() == {"code": CODE}
        show(None)
        assert httpx.get(address, trust_env=False).json() == {"code": None}
    with pytest.raises(httpx.ConnectError):
        httpx.get(address, trust_env=False)
    with closing(socket.create_server(("127.0.0.1", port))):
        pass  # the daemon can have the port at once


def test_nothing_but_the_page_is_served_and_nothing_can_be_sent(page: httpx.Client) -> None:
    for path in ("/", "/claim.json", "/static/claim.js", "/static/kiosk.css", "/messages/ar.json", "/stream"):
        answer = page.get(path)
        assert answer.status_code == 200, path
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
    assert CODE not in page.get("/").text
    for path in ("/code", "/static/main.js", "/static/../server.py", "/messages/xx.json", "/larger-cell"):
        assert page.get(path).status_code == 404, path
    for path in ("/code", "/larger-cell", "/speech", "/claim.json"):
        assert page.post(path, json={"text": "12345678"}).status_code == 501, path


def test_a_page_of_another_host_does_not_get_the_code(page: httpx.Client) -> None:
    for host in ("evil.example.org", "127.0.0.1", "localhost.evil.example.org:80"):
        answer = page.get("/claim.json", headers={"Host": host})
        assert answer.status_code == 421
        assert CODE not in answer.text


def test_it_listens_on_loopback_only_and_a_taken_port_is_an_error(port: int) -> None:
    with claim_page(port, "en"):
        with pytest.raises(OSError, match="in use"), claim_page(port, "en"):
            pytest.fail("a second one on the same port")
        with closing(socket.create_server(("127.0.0.2", port))):
            pass  # another address of this computer is free


def test_idle_connections_do_not_use_up_the_computer(page: httpx.Client, port: int) -> None:
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    try:
        extra = socket.create_connection(("127.0.0.1", port), timeout=5)
        assert extra.recv(1) == b""  # dropped
        extra.close()
    finally:
        for one in held:
            one.close()
    while True:  # until the threads of the closed connections have ended
        try:
            assert page.get("/claim.json").json() == {"code": CODE}
        except httpx.TransportError:
            continue
        return


def test_nothing_is_printed(page: httpx.Client, capfd: pytest.CaptureFixture[str]) -> None:
    page.get("/claim.json")
    page.get("/nothing")
    page.post("/claim.json", json={})
    assert capfd.readouterr() == ("", "")
