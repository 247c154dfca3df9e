"""The pseudo-terminal: a stable name, never blocking, open to the next user."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tools.bus_simulator.terminal import PseudoTerminal


async def test_bytes_pass_unchanged_both_ways(tmp_path: Path) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    terminal = PseudoTerminal(asyncio.get_running_loop(), tmp_path / "bus", heard.put_nowait)
    # Every byte that a terminal might take for itself: interrupts, flow control, line ends.
    data = bytes(range(256))
    user = os.open(tmp_path / "bus", os.O_RDWR | os.O_NOCTTY)
    os.write(user, data)
    received = b""
    while len(received) < 256:
        received += await asyncio.wait_for(heard.get(), 5)
    assert received == data
    terminal.write(data)
    received = b""
    while len(received) < 256:
        received += os.read(user, 256)
    assert received == data
    os.close(user)
    terminal.unplug()


async def test_nobody_reading_never_blocks(tmp_path: Path) -> None:
    terminal = PseudoTerminal(asyncio.get_running_loop(), tmp_path / "bus", lambda _: None)
    for _ in range(100):
        terminal.write(b"x" * 100_000)
    terminal.unplug()


async def test_link_replaces_an_old_one_and_goes(tmp_path: Path) -> None:
    link = tmp_path / "bus"
    link.symlink_to("/dev/pts/gone")
    terminal = PseudoTerminal(asyncio.get_running_loop(), link, lambda _: None)
    assert os.readlink(link) == terminal.name
    terminal.unplug()
    assert os.listdir(tmp_path) == []


async def test_link_of_another_stays(tmp_path: Path) -> None:
    link = tmp_path / "bus"
    first = PseudoTerminal(asyncio.get_running_loop(), link, lambda _: None)
    second = PseudoTerminal(asyncio.get_running_loop(), link, lambda _: None)
    first.unplug()
    assert os.readlink(link) == second.name
    second.unplug()


async def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    link = tmp_path / "bus"
    link.write_text("precious")
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileExistsError):
        PseudoTerminal(asyncio.get_running_loop(), link, lambda _: None)
    assert link.read_text() == "precious"
    assert len(os.listdir("/proc/self/fd")) == descriptors


async def test_unplugging_hangs_up_and_plugging_brings_a_fresh_port(tmp_path: Path) -> None:
    link, heard = tmp_path / "bus", asyncio.Queue[bytes]()
    terminal = PseudoTerminal(asyncio.get_running_loop(), link, heard.put_nowait)
    user = os.open(link, os.O_RDWR | os.O_NOCTTY)
    terminal.unplug()
    terminal.unplug()
    assert not link.is_symlink()
    assert os.read(user, 10) == b""
    with pytest.raises(OSError, match="Input/output error"):
        os.write(user, b"x")
    terminal.write(b"to nobody")
    terminal.plug()
    terminal.plug()
    fresh = os.open(link, os.O_RDWR | os.O_NOCTTY)
    os.write(fresh, b"y")
    assert await asyncio.wait_for(heard.get(), 5) == b"y"
    terminal.write(b"z")
    assert os.read(fresh, 10) == b"z"
    os.close(user)
    os.close(fresh)
    terminal.unplug()
    assert os.listdir(tmp_path) == []
