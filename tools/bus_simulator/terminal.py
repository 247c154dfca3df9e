"""A pseudo-terminal that looks like a serial port: a stable name, raw bytes, tolerant of its users.

We keep the terminal's own end open ourselves, so that a user that closes it (or is killed) causes no hang-up.
The price: the exclusive lock that a user took (TIOCEXCL) then survives that user, and would keep out
everybody but root. So the kernel notifies us (inotify) when a process closes the terminal, and we remove the
lock.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_IN_CLOSE = 0x08 | 0x10
READ_BYTES = 65_536


class PseudoTerminal:
    """One serial port. `link` points to it; `on_bytes` gets what its user writes.

    Raises `OSError` if the link cannot be made, also if its path is not a link.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, link: Path, on_bytes: Callable[[bytes], None]
    ) -> None:
        self._loop = loop
        self._link = link
        self._on_bytes = on_bytes
        self._master = self._slave = self._inotify = -1
        self.name = ""
        self.plug()

    def plug(self) -> None:
        """Makes a new port under the same name; without effect while there is one. Raises `OSError`."""
        if self._master >= 0:
            return
        self._master, self._slave = os.openpty()
        try:
            tty.setraw(self._slave)
            os.set_blocking(self._master, False)
            self.name = os.ttyname(self._slave)
            self._inotify = _watch_closing(self.name)
            _replace_link(self._link, self.name)
        except OSError:
            self._close_descriptors()
            raise
        self._loop.add_reader(self._master, self._readable)
        self._loop.add_reader(self._inotify, self._somebody_left)

    def unplug(self) -> None:
        """Removes the port, and its link if it still points here: a process that has it open gets a
        hang-up."""
        if self._master < 0:
            return
        self._loop.remove_reader(self._master)
        self._loop.remove_reader(self._inotify)
        with suppress(OSError):
            if os.readlink(self._link) == self.name:
                os.unlink(self._link)
        self._close_descriptors()

    def write(self, data: bytes) -> None:
        """Sends bytes to the port's user; what a full buffer does not take is lost, as in an overrun, and so
        is everything while the port is removed."""
        if self._master >= 0:
            with suppress(BlockingIOError):
                os.write(self._master, data)

    def _readable(self) -> None:
        with suppress(BlockingIOError):
            self._on_bytes(os.read(self._master, READ_BYTES))

    def _somebody_left(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._inotify, READ_BYTES)
        # The holder of the lock keeps others than root from opening, so the process that left was the holder.
        fcntl.ioctl(self._slave, termios.TIOCNXCL)

    def _close_descriptors(self) -> None:
        for descriptor in (self._master, self._slave, self._inotify):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = self._inotify = -1


def _watch_closing(path: str) -> int:
    """An inotify descriptor that becomes readable when a process closes the file."""
    descriptor: int = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0 or _LIBC.inotify_add_watch(descriptor, path.encode(), _IN_CLOSE) < 0:
        number = ctypes.get_errno()
        if descriptor >= 0:
            os.close(descriptor)
        raise OSError(number, os.strerror(number), path)
    return descriptor


def _replace_link(link: Path, target: str) -> None:
    if os.path.lexists(link) and not link.is_symlink():
        raise FileExistsError(errno.EEXIST, "something stands there that is not a link", str(link))
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        fresh.unlink()
    fresh.symlink_to(target)
    fresh.replace(link)
