"""A serial line of the kernel as a `Transport`: raw, non-blocking, for exclusive use."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import termios
from collections.abc import Callable

from edge_agent.errors import PortLost

_PARITY = {"N": 0, "E": termios.PARENB, "O": termios.PARENB | termios.PARODD}


def open_raw(port: str, baud: int, parity: str = "N", stop_bits: int = 1) -> int:
    """A descriptor of `port`, raw and non-blocking, locked against others (TIOCEXCL and flock).

    Raises `PortLost` if the port is not there, is no terminal, or another process has it.
    """
    try:
        descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PortLost(f"{port}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.ioctl(descriptor, termios.TIOCEXCL)
        speed = getattr(termios, f"B{baud}")
        control = termios.CREAD | termios.CLOCAL | termios.CS8 | _PARITY[parity]
        if stop_bits == 2:
            control |= termios.CSTOPB
        characters = termios.tcgetattr(descriptor)[6]
        # At least one byte: then no data is EAGAIN, and an empty read means that the line hung up.
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        settings = [0, 0, control, 0, speed, speed, characters]
        termios.tcsetattr(descriptor, termios.TCSANOW, settings)
        termios.tcflush(descriptor, termios.TCIOFLUSH)
    except (OSError, termios.error) as error:
        os.close(descriptor)
        raise PortLost(f"{port}: {error}") from None
    return descriptor


class TtyTransport:
    """`Transport` over a tty; the running event loop watches the descriptor."""

    def __init__(self, port: str, baud: int, parity: str = "N", stop_bits: int = 1) -> None:
        self._port = port
        self._line = (baud, parity, stop_bits)
        self._descriptor: int | None = None
        self._on_bytes: Callable[[bytes], None] | None = None
        self._on_lost: Callable[[str], None] | None = None

    async def dial(self) -> None:
        """See `Transport.dial`: there is nothing to dial."""

    def open(self, on_bytes: Callable[[bytes], None], on_lost: Callable[[str], None]) -> None:
        """See `Transport.open`."""
        self._descriptor = open_raw(self._port, *self._line)
        self._on_bytes, self._on_lost = on_bytes, on_lost
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable)

    def write(self, frame: bytes) -> None:
        """See `Transport.write`. If the kernel cannot take the whole frame, the line counts as lost."""
        if self._descriptor is None:
            raise PortLost(f"{self._port}: not open")
        try:
            written = os.write(self._descriptor, frame)
        except OSError as error:
            raise PortLost(f"{self._port}: {error.strerror}") from None
        if written != len(frame):
            raise PortLost(f"{self._port}: the output buffer is full")

    def close(self) -> None:
        """See `Transport.close`."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        asyncio.get_running_loop().remove_reader(descriptor)
        try:
            fcntl.ioctl(descriptor, termios.TIOCNXCL)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.ENOTTY, errno.ENODEV):
                raise
        finally:
            os.close(descriptor)

    def _readable(self) -> None:
        assert self._descriptor is not None
        assert self._on_bytes is not None
        assert self._on_lost is not None
        try:
            data = os.read(self._descriptor, 4096)
        except BlockingIOError:
            return
        except OSError as error:
            data, reason = b"", error.strerror or "read failed"
        else:
            reason = "hung up"
        if data:
            self._on_bytes(data)
            return
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._on_lost(f"{self._port}: {reason}")
