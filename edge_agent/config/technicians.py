"""Technicians who may open doors by hand: a file of names and the scrypt hashes of their PINs.

One line each, `NAME:$scrypt$ln=14,r=8,p=1$SALT$HASH` (salt and hash in base64, RFC 7914 for the function);
empty lines and those that begin with `#` are ignored. The PINs themselves are not stored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KEY = "access.technicians_file"
NAME_HEADER, PIN_HEADER = "X-Technician", "X-Technician-PIN"
"""Headers that identify a request's technician, both percent-encoded. Without a name the calling user's is
used."""
LOG2_N, R, P = 14, 8, 1
"""The cost of a new line: 16 MiB and some 60 ms, on a small board a quarter of a second."""
LEAST_LOG2_N, MOST_LOG2_N, MOST_R, MOST_P = 12, 17, 16, 4
"""The costs that a line may have: more would hold up the next caller."""
MOST_BYTES = 64 * 1024 * 1024
"""Memory that a line may need: the service has 256 MB in all, and is killed beyond."""
SALT_BYTES, HASH_BYTES = 16, 32
SHORTEST_PIN, LONGEST_PIN = 6, 128
LONGEST_FILE = 65_536
NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}", re.ASCII)
_LINE = re.compile(
    r"(?P<name>[^:]+):\$scrypt\$ln=(?P<n>\d{1,2}),r=(?P<r>\d{1,2}),p=(?P<p>\d{1,2})"
    r"\$(?P<salt>[A-Za-z0-9+/=]{16,64})\$(?P<hash>[A-Za-z0-9+/=]{40,64})",
    re.ASCII,
)


class TechniciansFault(Exception):
    """The file is faulty, and admits no technician. Names the fault, but nothing from the file."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """The hash of a PIN and its parameters."""

    log2_n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    def matches(self, pin: str) -> bool:
        """Whether the PIN matches; takes as long as scrypt takes, and equally long for any PIN."""
        return hmac.compare_digest(_scrypt(pin, self.salt, self.log2_n, self.r, self.p), self.digest)


def hashed(pin: str) -> Hashed:
    """A new salt and the hash of the PIN with it."""
    salt = os.urandom(SALT_BYTES)
    return Hashed(LOG2_N, R, P, salt, _scrypt(pin, salt, LOG2_N, R, P))


def line(name: str, pin: str) -> str:
    """A line for the file, without its end. Raises `ValueError` for an unsuitable name or PIN."""
    if not NAME.fullmatch(name):
        raise ValueError("a name is 1 to 64 letters, digits, _, ., @ and -")
    if not SHORTEST_PIN <= len(pin) <= LONGEST_PIN or not pin.isprintable():
        raise ValueError(f"a PIN is {SHORTEST_PIN} to {LONGEST_PIN} printable characters")
    made = hashed(pin)
    salt, digest = (base64.b64encode(part).decode() for part in (made.salt, made.digest))
    return f"{name}:$scrypt$ln={made.log2_n},r={made.r},p={made.p}${salt}${digest}"


def parse(text: str) -> dict[str, Hashed]:
    """The technicians by name. Raises `TechniciansFault` naming the faulty line."""
    found: dict[str, Hashed] = {}
    for number, row in enumerate(text.splitlines(), 1):
        if not row.strip() or row.startswith("#"):
            continue
        match = _LINE.fullmatch(row.strip())
        made = None if match is None else _hashed_in(match)
        if match is None or made is None:
            raise TechniciansFault(f"{KEY}: line {number} is no NAME:$scrypt$...")
        if match["name"] in found:
            raise TechniciansFault(f"{KEY}: line {number} names a technician a second time")
        found[match["name"]] = made
    return found


def _hashed_in(match: re.Match[str]) -> Hashed | None:
    log2_n, r, p = int(match["n"]), int(match["r"]), int(match["p"])
    try:
        salt = base64.b64decode(match["salt"], validate=True)
        digest = base64.b64decode(match["hash"], validate=True)
    except binascii.Error:
        return None
    cost = LEAST_LOG2_N <= log2_n <= MOST_LOG2_N and 1 <= r <= MOST_R and 1 <= p <= MOST_P
    cost = cost and 128 * r << log2_n <= MOST_BYTES
    good = cost and len(digest) == HASH_BYTES and NAME.fullmatch(match["name"])
    return Hashed(log2_n, r, p, salt, digest) if good else None


def read(path: Path, *, ours: bool = True) -> Mapping[str, Hashed]:
    """The technicians of a file that is `ours`, or root's, and that no other user may read.

    Raises `TechniciansFault`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise TechniciansFault(f"{KEY}: {error.strerror}") from None
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise TechniciansFault(f"{KEY} is no file")
        if ours and about.st_uid not in (0, os.geteuid()):
            raise TechniciansFault(f"{KEY} belongs to another user")
        if about.st_mode & 0o077:
            raise TechniciansFault(f"{KEY} can be read by others (mode {stat.S_IMODE(about.st_mode):04o})")
        return parse(os.read(descriptor, LONGEST_FILE).decode())
    except OSError as error:
        raise TechniciansFault(f"{KEY}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TechniciansFault(f"{KEY} is not UTF-8") from None
    finally:
        os.close(descriptor)


def _scrypt(pin: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    needs = 128 * r * ((1 << log2_n) + p + 2)
    return hashlib.scrypt(pin.encode(), salt=salt, n=1 << log2_n, r=r, p=p, maxmem=needs, dklen=HASH_BYTES)
