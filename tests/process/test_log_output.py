"""The daemon's log: entries with fields for the journal, key-value lines elsewhere; and no core dumps."""

from __future__ import annotations

import io
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog

from edge_agent.process.log_output import (
    BURST,
    LEFT_OUT,
    LONGEST_VALUE,
    JournalLogger,
    RepeatLimit,
    configure,
)


def parsed(datagram: bytes) -> dict[str, str]:
    """The fields of an entry in the journal's native protocol."""
    fields = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", rest[:8])
            value, end, rest = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert end == b"\n"
        fields[name.decode()] = value.decode()
        datagram = rest
    return fields


@contextmanager
def configured(stream: TextIO, environment: dict[str, str], journal: Path) -> Iterator[None]:
    before = structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []  # those of pytest are not to be closed
    structlog.reset_defaults()
    logger = configure(stream, environment, str(journal))
    try:
        yield
    finally:
        structlog.configure(**before)
        root.handlers, root.level = handlers, level
        if logger is not None:
            logger.close()


class Journal:
    """A socket in the journal's place, and a stream that is connected with it as far as one can see."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(5)
        self._socket.bind(str(self.path))
        self.file = folder / "stderr"
        self.stream = self.file.open("w", encoding="utf-8")
        found = os.fstat(self.stream.fileno())
        self.environment = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}

    def entry(self) -> dict[str, str]:
        return parsed(self._socket.recv(1 << 20))

    def close(self) -> None:
        self._socket.close()
        self.stream.close()


@pytest.fixture(name="journal")
def _journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    yield journal
    journal.close()


def test_an_entry_has_its_message_its_level_and_a_field_for_each_key(journal: Journal) -> None:
    with configured(journal.stream, journal.environment, journal.path):
        structlog.get_logger().warning("pulse not given", cell="A01", attempt=2, **{"odd key!": None})
    assert journal.entry() == {
        "MESSAGE": "pulse not given cell=A01 attempt=2 odd key!=None",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "edge-agent",
        "EDGE_EVENT": "pulse not given",
        "EDGE_CELL": "A01",
        "EDGE_ATTEMPT": "2",
        "EDGE_ODD_KEY_": "None",
    }
    assert journal.file.read_text() == ""


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("error", "3"), ("critical", "2")]
)
def test_levels_are_those_of_syslog(journal: Journal, level: str, priority: str) -> None:
    with configured(journal.stream, journal.environment, journal.path):
        getattr(structlog.get_logger(), level)("noted")
    assert journal.entry()["PRIORITY"] == priority


def test_no_logged_value_can_forge_a_field(journal: Journal) -> None:
    """Line breaks stay within their value, and a traceback within its message."""
    with configured(journal.stream, journal.environment, journal.path):
        try:
            raise ValueError("first\nPRIORITY=0")
        except ValueError:
            structlog.get_logger().exception("it failed", detail="a\nMESSAGE=b")
    entry = journal.entry()
    assert entry["PRIORITY"] == "3"
    assert entry["EDGE_DETAIL"] == "a\nMESSAGE=b"
    assert entry["MESSAGE"].startswith("it failed detail=a\nMESSAGE=b\nTraceback")
    assert "EDGE_EXCEPTION" not in entry


def test_what_is_too_long_is_cut(journal: Journal) -> None:
    with configured(journal.stream, journal.environment, journal.path):
        structlog.get_logger().info("long", detail="x" * 1_000_000)
    assert len(journal.entry()["EDGE_DETAIL"]) == LONGEST_VALUE


def test_entries_that_the_journal_does_not_accept_go_to_stderr(journal: Journal, tmp_path: Path) -> None:
    with configured(journal.stream, journal.environment, tmp_path / "nobody"):
        structlog.get_logger().info("noted", cell="A01")
    assert "event='noted' cell='A01'" in journal.file.read_text()


def test_a_blocked_log_socket_blocks_no_thread_and_lost_entries_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal, ExitStack() as stack:
        journal.bind(str(path))
        journal.settimeout(5)
        ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
        stream = stack.enter_context(ours.makefile("w", encoding="utf-8"))
        stack.callback(theirs.close)  # before the stream, so that closing does not block
        logger = JournalLogger(str(path), stream)

        def log_much() -> None:
            for _ in range(2500):  # more than both of them hold
                logger.info({"event": "noted", "level": "info", "detail": "x" * 1000})

        thread = threading.Thread(target=log_much, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
        theirs.setblocking(False)
        assert b"event='noted'" in theirs.recv(1 << 20)
        journal.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                journal.recv(1 << 20)
        journal.settimeout(5)
        logger.info({"event": "again", "level": "info"})
        assert parsed(journal.recv(1 << 20))["MESSAGE"] == "again"
        lost = parsed(journal.recv(1 << 20))
        assert lost["EDGE_EVENT"] == "log entries were lost"
        assert int(lost["EDGE_COUNT"]) > 1000
        logger.close()


@pytest.mark.parametrize("found", [None, "1:2", "rubbish"])
def test_without_the_journal_lines_go_to_stderr(journal: Journal, found: str | None) -> None:
    environment = {} if found is None else {"JOURNAL_STREAM": found}
    with configured(journal.stream, environment, journal.path):
        structlog.get_logger().info("noted", cell="A01")
    assert "level='info' event='noted' cell='A01'" in journal.file.read_text()


def test_a_stream_without_a_file_is_not_the_journal(journal: Journal) -> None:
    stream = io.StringIO()
    with configured(stream, journal.environment, journal.path):
        structlog.get_logger().info("noted")
    assert "event='noted'" in stream.getvalue()


def test_no_core_is_ever_dumped() -> None:
    script = (
        "import ctypes, resource\n"
        "from edge_agent.process.core_dumps import keep_out_of_dumps\n"
        "keep_out_of_dumps()\n"
        "keep_out_of_dumps()\n"
        "PR_GET_DUMPABLE = 3\n"
        "dumpable = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), dumpable)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "(0, 0) 0\n"


def test_x2_a_repeated_entry_is_written_a_few_times_and_then_counted() -> None:
    now_s = 0.0
    limit = RepeatLimit(lambda: now_s)
    written: list[Any] = []

    def log(event: str) -> None:
        with suppress(structlog.DropEvent):
            written.append(limit(None, "warning", {"event": event, "peer": len(written)}))

    for _ in range(10_000):
        log("refused")
    assert len(written) == BURST
    log("another")
    assert written[-1][LEFT_OUT] == f"refused: {10_000 - BURST}"
    log("another")
    assert LEFT_OUT not in written[-1]
    log("refused")
    assert len(written) == BURST + 2
    now_s = 5.0
    for _ in range(100):
        log("refused")
    assert len(written) == BURST + 2 + 5
    assert written[-5][LEFT_OUT] == "refused: 1"
    now_s = 1e6
    log("third")
    assert written[-1][LEFT_OUT] == "refused: 95"
    log("fourth")
    assert set(limit._buckets) == {("warning", "third"), ("warning", "fourth")}


def test_x2_what_libraries_log_is_an_entry_and_is_limited(tmp_path: Path) -> None:
    stream = io.StringIO()
    with configured(stream, {}, tmp_path / "nobody"):
        for n in range(2 * BURST):
            try:
                raise OSError(24, f"Too many open files {n}")
            except OSError:
                logging.getLogger("asyncio").exception("socket.accept() %d", n)
        logging.getLogger("uvicorn.error").info("Started server process")
        structlog.get_logger().info("last")
    lines = stream.getvalue().splitlines()
    of_asyncio = [line for line in lines if "event='asyncio'" in line]
    assert len(of_asyncio) == BURST
    assert "message='socket.accept() 0'" in of_asyncio[0]
    assert "Traceback" in of_asyncio[0]
    assert f"left_out='asyncio: {BURST}'" in lines[-1]
    assert "uvicorn" not in stream.getvalue()
