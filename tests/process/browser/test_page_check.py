"""Pictures of the page, and the command's own arguments, without a browser."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import pytest

from edge_agent.process.browser.page_check import is_one_colour

WIDTH, HEIGHT = 200, 120


def png(rows: list[bytes], filter_number: int = 0) -> bytes:
    """A picture of 8 bits a channel; its rows are already filtered."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(bytes([filter_number]) + row for row in rows))
    half = len(data) // 2
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", data[:half]), chunk(b"IDAT", data[half:])]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize("colour", [b"\x00\x00\x00", b"\xff\xff\xff", b"\x12\x34\x56"])
def test_a_picture_of_one_colour(colour: bytes) -> None:
    assert is_one_colour(png([colour * WIDTH] * HEIGHT))
    differences = [colour + b"\x00\x00\x00" * (WIDTH - 1)] * HEIGHT
    assert is_one_colour(png(differences, filter_number=1))


def test_a_picture_with_text_has_more() -> None:
    row = bytes(range(256)) * 2
    assert not is_one_colour(png([row + bytes(3 * WIDTH - len(row))] + [bytes(3 * WIDTH)] * (HEIGHT - 1)))


@pytest.mark.parametrize("other", [b"", b"\xff\xd8\xff a JPEG picture"])
def test_what_is_no_picture_is_an_error(other: bytes) -> None:
    with pytest.raises(ValueError, match="no PNG"):
        is_one_colour(other)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--url"),
        (["--url", "http://127.0.0.1:8082/"], "--remote-debugging-pipe"),
        (["--url", "http://127.0.0.1:8082/", "--", "chromium"], "--remote-debugging-pipe"),
    ],
)
def test_bad_usage_names_what_is_missing(arguments: list[str], word: str) -> None:
    command = [sys.executable, "-m", "edge_agent", "kiosk-browser", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert word in done.stderr
