"""A Modbus RTU slave: raw request bytes in, raw reply bytes out.

Written independently from the Modbus application protocol 1.1b3 and the serial line guide 1.02, so that a
mistake in the client's codec is not repeated here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

BROADCAST = 0
ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4

Execute = Callable[[bytes, int], bytes]
"""One function: the request's bytes after the function code and the instant; returns the reply's."""


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_TABLE = _crc_table()


def crc16(data: bytes) -> int:
    """The Modbus checksum (serial line guide 1.02, 6.2.2); it travels low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


def with_crc(body: bytes) -> bytes:
    """A frame with its checksum."""
    return body + crc16(body).to_bytes(2, "little")


def intact(frame: bytes) -> bool:
    """Whether these bytes are one frame with a right checksum."""
    return 4 <= len(frame) <= 256 and crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little")


def request_length(start: bytes) -> int | None:
    """The length of the request that begins like this, checksum included; None if that is not known (yet)."""
    if len(start) < 2:
        return None
    if start[1] in (1, 2, 3, 4, 5, 6):
        return 8
    if start[1] in (15, 16):
        return 9 + start[6] if len(start) > 6 else None
    return None


class Rejected(Exception):
    """The request cannot be carried out; answered with a Modbus exception code."""

    def __init__(self, exception_code: int) -> None:
        super().__init__(exception_code)
        self.exception_code = exception_code


def word(data: bytes, index: int) -> int:
    """The 16-bit register number `index` of these bytes."""
    return int.from_bytes(data[2 * index : 2 * index + 2], "big")


def words(*values: int) -> bytes:
    """Registers as bytes, high byte first; negative values as two's complement."""
    return b"".join((value & 0xFFFF).to_bytes(2, "big") for value in values)


def address_and_value(body: bytes) -> tuple[int, int]:
    """The two words of functions 01 to 06. Raises `Rejected` if there are not exactly two."""
    if len(body) != 4:
        raise Rejected(ILLEGAL_VALUE)
    return word(body, 0), word(body, 1)


def written_words(body: bytes) -> tuple[int, list[int]]:
    """First register and values of a function 16 request. Raises `Rejected` if the counts disagree."""
    if len(body) < 5:
        raise Rejected(ILLEGAL_VALUE)
    first, count, size = word(body, 0), word(body, 1), body[4]
    if not 1 <= count <= 123 or size != 2 * count or len(body) != 5 + size:
        raise Rejected(ILLEGAL_VALUE)
    return first, [word(body[5:], index) for index in range(count)]


def written_bits(body: bytes, coils: int) -> tuple[int, list[int]]:
    """First coil and levels of a function 15 request to a device with `coils` coils. Raises `Rejected`."""
    if len(body) < 5:
        raise Rejected(ILLEGAL_VALUE)
    first, count, size = word(body, 0), word(body, 1), body[4]
    if not 1 <= count <= 1968 or size != (count + 7) // 8 or len(body) != 5 + size:
        raise Rejected(ILLEGAL_VALUE)
    if first + count > coils:
        raise Rejected(ILLEGAL_ADDRESS)
    packed = int.from_bytes(body[5:], "little")
    return first, [packed >> index & 1 for index in range(count)]


def read_bits(body: bytes, at_ns: int, bits: list[Callable[[int], int]]) -> bytes:
    """The reply to functions 01 and 02 over `bits`, the first at address 0. Raises `Rejected`."""
    first, count = address_and_value(body)
    if not 1 <= count <= 2000:
        raise Rejected(ILLEGAL_VALUE)
    if first + count > len(bits):
        raise Rejected(ILLEGAL_ADDRESS)
    packed = 0
    for index, bit in enumerate(bits[first : first + count]):
        packed |= (1 if bit(at_ns) else 0) << index
    size = (count + 7) // 8
    return bytes([size]) + packed.to_bytes(size, "little")


def read_words(body: bytes, register: Callable[[int], int | None]) -> bytes:
    """The reply to functions 03 and 04; `register` gives a value, or None if there is none. Raises
    `Rejected`."""
    first, count = address_and_value(body)
    if not 1 <= count <= 125:
        raise Rejected(ILLEGAL_VALUE)
    values = []
    for address in range(first, first + count):
        value = register(address)
        if value is None:
            raise Rejected(ILLEGAL_ADDRESS)
        values.append(value)
    return bytes([2 * count]) + words(*values)


class Slave(ABC):
    """A device on the bus. A subclass gives its functions; this class handles address, checksum and
    exceptions."""

    def __init__(self, address: int) -> None:
        self.address = address

    @abstractmethod
    def functions(self) -> Mapping[int, Execute]:
        """The device's functions, by function code."""

    def answer(self, frame: bytes, at_ns: int) -> bytes | None:
        """Carries out a whole frame at an instant (ns); None if the device does not answer: a damaged frame,
        another's address, a broadcast."""
        if not intact(frame) or frame[0] not in (BROADCAST, self.address):
            return None
        asked, function = frame[0], frame[1]
        try:
            execute = self.functions().get(function)
            if execute is None:
                raise Rejected(ILLEGAL_FUNCTION)
            pdu = bytes([function]) + execute(frame[2:-2], at_ns)
        except Rejected as rejected:
            pdu = bytes([function | 0x80, rejected.exception_code])
        # The address that was asked: a write may just have changed ours.
        return None if asked == BROADCAST else with_crc(bytes([asked]) + pdu)
