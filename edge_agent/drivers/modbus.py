"""Modbus RTU requests and the checking of replies; the only file that imports pymodbus.

pymodbus gives PDUs, framing and the checksum. It checks neither a reply's length nor, for writes, its echo
(docs/decisions/0002-own-transport.md), so `parse_reply` does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pymodbus.framer.rtu import FramerRTU
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest, WriteSingleCoilRequest
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteSingleRegisterRequest,
)

from edge_agent.errors import BadReply, DeviceFault

READS = {
    1: ReadCoilsRequest,
    2: ReadDiscreteInputsRequest,
    3: ReadHoldingRegistersRequest,
    4: ReadInputRegistersRequest,
}
EXCEPTION_LENGTH = 5
_DECODER = DecodePDU(is_server=False)
_FRAMER = FramerRTU(_DECODER)


@dataclass(frozen=True, slots=True)
class Read:
    """Read `count` coils (1), discrete inputs (2), holding (3) or input registers (4) from `address`."""

    function: int
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Write:
    """Write one coil (5) or register (6); `value` goes on the wire as it is, as vendors' coils want it."""

    function: int
    address: int
    value: int


Request = Read | Write


class _RawCoil(WriteSingleCoilRequest):
    """Function 05 with any 16-bit value, as boards with timed pulses want it."""

    raw_value = 0

    def encode(self) -> bytes:
        return struct.pack(">HH", self.address, self.raw_value)


def build_frame(device_id: int, request: Request) -> bytes:
    """The bytes of a request, checksum included."""
    pdu: ModbusPDU
    if isinstance(request, Read):
        pdu = READS[request.function](dev_id=device_id, address=request.address, count=request.count)
    elif request.function == 5:
        pdu = _RawCoil(dev_id=device_id, address=request.address)
        pdu.raw_value = request.value
    else:
        registers = [request.value]
        pdu = WriteSingleRegisterRequest(dev_id=device_id, address=request.address, registers=registers)
    return bytes(_FRAMER.buildFrame(pdu))


def reply_length(request: Request) -> int:
    """Bytes of the normal reply to a request (Modbus over serial line 1.02, application protocol 1.1b3)."""
    if isinstance(request, Write):
        return 8
    data = (request.count + 7) // 8 if request.function in (1, 2) else 2 * request.count
    return 5 + data


def complete_length(request: Request, received: bytes) -> int:
    """How many bytes the reply that begins with `received` will have."""
    if len(received) >= 2 and received[1] & 0x80:
        return EXCEPTION_LENGTH
    return reply_length(request)


def parse_reply(device_id: int, request: Request, reply: bytes) -> list[int]:
    """The bits or registers read; an empty list for a write whose echo is right.

    Raises `DeviceFault` for an exception reply, `BadReply` for anything that is not the reply to this very
    request: wrong length, checksum, device, function, byte count or echo.
    """
    if len(reply) < 4 or len(reply) != complete_length(request, reply):
        raise BadReply(f"{len(reply)} bytes, not {complete_length(request, reply)}")
    if not FramerRTU.check_CRC(reply[:-2], int.from_bytes(reply[-2:], "big")):
        raise BadReply("checksum is wrong")
    if reply[0] != device_id:
        raise BadReply(f"device {reply[0]} answered instead of {device_id}")
    if reply[1] == request.function | 0x80:
        raise DeviceFault(f"address {device_id}", reply[2])
    if reply[1] != request.function:
        raise BadReply(f"function {reply[1]} answered instead of {request.function}")
    if isinstance(request, Write):
        if reply != build_frame(device_id, request):
            raise BadReply("the echo of a write differs from the request")
        return []
    if reply[2] != len(reply) - 5:
        raise BadReply(f"byte count {reply[2]}, not {len(reply) - 5}")
    pdu = _DECODER.decode(reply[1:-2])
    if pdu is None:
        raise BadReply("not a Modbus reply")
    if request.function in (1, 2):
        return [int(bit) for bit in pdu.bits[: request.count]]
    return [int(register) for register in pdu.registers[: request.count]]
