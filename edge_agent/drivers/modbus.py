"""Encodes Modbus requests and checks their replies, RTU and TCP; the only file of the daemon that imports
pymodbus.

pymodbus gives PDUs, framing and the checksum. It checks neither a reply's length nor, for writes, its echo
(docs/decisions/0002-own-transport.md), so `parse_reply` does.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence

from pymodbus.framer.rtu import FramerRTU
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from edge_agent.drivers.requests import (
    AddressedRequest,
    Frame,
    Read,
    Request,
    Write,
    WriteCoils,
    WriteRegisters,
)
from edge_agent.errors import BadReply, DeviceFault, OtherDevice

READS = {
    1: ReadCoilsRequest,
    2: ReadDiscreteInputsRequest,
    3: ReadHoldingRegistersRequest,
    4: ReadInputRegistersRequest,
}
EXCEPTION_LENGTH = 5
_DECODER = DecodePDU(is_server=False)
_FRAMER = FramerRTU(_DECODER)


class _RawCoil(WriteSingleCoilRequest):
    """Function 05 with any 16-bit value, as boards with timed pulses need it."""

    raw_value = 0

    def encode(self) -> bytes:
        return struct.pack(">HH", self.address, self.raw_value)


def function_of(request: Request) -> int:
    """The function code. Raises `TypeError` for a request of another protocol."""
    if isinstance(request, WriteRegisters):
        return 16
    if isinstance(request, WriteCoils):
        return 15
    if isinstance(request, Read | Write):
        return request.function
    raise TypeError(f"not a Modbus request: {request}")


def build_frame(address: int, request: Request) -> bytes:
    """The bytes of a request, checksum included."""
    pdu: ModbusPDU
    if isinstance(request, Read):
        pdu = READS[request.function](dev_id=address, address=request.address, count=request.count)
    elif isinstance(request, WriteRegisters):
        values = list(request.values)
        pdu = WriteMultipleRegistersRequest(dev_id=address, address=request.address, registers=values)
    elif isinstance(request, WriteCoils):
        bits = [bool(value) for value in request.values]
        pdu = WriteMultipleCoilsRequest(dev_id=address, address=request.address, bits=bits)
    elif not isinstance(request, Write):
        raise TypeError(f"not a Modbus request: {request}")
    elif request.function == 5:
        pdu = _RawCoil(dev_id=address, address=request.address)
        pdu.raw_value = request.value
    else:
        registers = [request.value]
        pdu = WriteSingleRegisterRequest(dev_id=address, address=request.address, registers=registers)
    return bytes(_FRAMER.buildFrame(pdu))


def reply_length(request: Request) -> int:
    """Bytes of the normal reply to a request (Modbus over serial line 1.02, application protocol 1.1b3)."""
    if not isinstance(request, Read):
        return 8
    data = (request.count + 7) // 8 if request.function in (1, 2) else 2 * request.count
    return 5 + data


def complete_length(request: Request, received: bytes) -> int:
    """How many bytes the reply that begins with `received` will have."""
    if len(received) >= 2 and received[1] & 0x80:
        return EXCEPTION_LENGTH
    return reply_length(request)


def parse_reply(address: int, request: Request, reply: bytes) -> list[int]:
    """The bits or registers read; an empty list for a write whose echo is right.

    Raises `DeviceFault` for an exception reply, `BadReply` for anything that is not the reply to this very
    request: wrong length, checksum, device, function, byte count or echo.
    """
    if len(reply) < 4 or len(reply) != complete_length(request, reply):
        raise BadReply(f"{len(reply)} bytes, not {complete_length(request, reply)}")
    if not intact(reply):
        raise BadReply("checksum is wrong")
    if reply[0] != address:
        raise OtherDevice(f"device {reply[0]} answered instead of {address}")
    function = function_of(request)
    if reply[1] == function | 0x80:
        raise DeviceFault(f"address {address}", reply[2])
    if reply[1] != function:
        raise BadReply(f"function {reply[1]} answered instead of {function}")
    if not isinstance(request, Read):
        # The reply to functions 15 and 16 has address and count, with which its request begins.
        if reply[:6] != build_frame(address, request)[:6]:
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


class RtuCodec:
    """Modbus RTU: a reply is recognised where device, function, length and checksum agree.

    Bytes before and after it are stray: a transceiver that changes direction adds some
    (docs/decisions/0037-framing-by-checksum.md). Over a network (a serial server) the bytes are the same.
    """

    replies_identify_requests = False
    least_readings = 1

    def encode(self, question: AddressedRequest) -> bytes:
        """See `Codec.encode`."""
        return build_frame(question.address, question.request)

    def reply_bytes(self, request: Request) -> int:
        """See `Codec.reply_bytes`."""
        return reply_length(request)

    def first_frame(
        self, heard: bytes, wanted: AddressedRequest | None, owed: Sequence[AddressedRequest]
    ) -> Frame | None:
        """See `Codec.first_frame`."""
        questions = [*([] if wanted is None else [wanted]), *owed]
        for start in range(len(heard) - 1):
            rest = heard[start:]
            for question in questions:
                if _fits(rest, question):
                    length = complete_length(question.request, rest)
                    if len(rest) >= length and intact(rest[:length]):
                        return Frame(start, length, question)
        return None

    def is_long_enough(self, request: Request, heard: bytes) -> bool:
        """See `Codec.is_long_enough`."""
        return len(heard) >= complete_length(request, heard)

    def parse(self, question: AddressedRequest, reply: bytes) -> list[int]:
        """See `Codec.parse`."""
        return parse_reply(question.address, question.request, reply)


MBAP_LENGTH = 7
LATE_TRANSACTIONS = 64
"""A reply with one of this many last transaction numbers is late; one with another number is foreign."""


class TcpCodec:
    """Modbus TCP (Messaging on TCP/IP 1.0b, 3.1): a header with a transaction number before the PDU.

    A reply with another number than its request's is refused, unless `checks_transactions` is off. Then a
    reply is recognised by unit and function, as on a serial line.
    """

    least_readings = 1

    def __init__(self, transaction: int = 0, *, checks_transactions: bool = True) -> None:
        """`transaction`: the number before that of the first frame."""
        self.replies_identify_requests = checks_transactions
        self._transaction = transaction
        self._recent: deque[int] = deque(maxlen=LATE_TRANSACTIONS)

    def encode(self, question: AddressedRequest) -> bytes:
        """See `Codec.encode`; every frame gets the next transaction number."""
        self._transaction = (self._transaction + 1) & 0xFFFF
        self._recent.append(self._transaction)
        pdu = build_frame(question.address, question.request)[1:-2]
        return struct.pack(">HHHB", self._transaction, 0, len(pdu) + 1, question.address) + pdu

    def reply_bytes(self, request: Request) -> int:
        """See `Codec.reply_bytes`."""
        return MBAP_LENGTH + reply_length(request) - 3

    def is_long_enough(self, request: Request, heard: bytes) -> bool:
        """See `Codec.is_long_enough`; the header gives the length."""
        return False

    def first_frame(
        self, heard: bytes, wanted: AddressedRequest | None, owed: Sequence[AddressedRequest]
    ) -> Frame | None:
        """See `Codec.first_frame`. A stream that lost its framing is discarded as a whole."""
        if len(heard) < MBAP_LENGTH:
            return None
        transaction, protocol, length, unit = struct.unpack(">HHHB", heard[:MBAP_LENGTH])
        if protocol != 0 or not 3 <= length <= 254:
            return Frame(0, len(heard), wanted, unit)
        if len(heard) < length + 6:
            return None
        size = length + 6
        if transaction == self._transaction:
            return Frame(0, size, wanted, unit)
        if self.replies_identify_requests:
            return Frame(0, size, None, unit, foreign=transaction not in self._recent)
        body = heard[MBAP_LENGTH - 1 : size]
        questions = [*([] if wanted is None else [wanted]), *owed]
        return Frame(0, size, next((q for q in questions if _fits(body, q)), None), unit)

    def parse(self, question: AddressedRequest, reply: bytes) -> list[int]:
        """See `Codec.parse`."""
        if len(reply) < MBAP_LENGTH + 2 or reply[2:4] != b"\0\0" or len(reply) != 6 + reply[5]:
            raise BadReply(f"{len(reply)} bytes that are no Modbus TCP frame")
        return parse_reply(question.address, question.request, as_rtu(reply))


def as_rtu(frame: bytes) -> bytes:
    """A Modbus TCP frame as it would stand on a serial line: unit, PDU, and a checksum."""
    body = frame[MBAP_LENGTH - 1 :]
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


def _fits(heard: bytes, question: AddressedRequest) -> bool:
    """Whether this may be the beginning of the reply; the reply to a write repeats its address and value."""
    if heard[0] != question.address or heard[1] & 0x7F != function_of(question.request):
        return False
    if isinstance(question.request, Read) or heard[1] & 0x80:
        return True
    return heard[:6] == build_frame(question.address, question.request)[: min(6, len(heard))]


def intact(frame: bytes) -> bool:
    """Whether the checksum at the end of an RTU frame holds."""
    return bool(FramerRTU.check_CRC(frame[:-2], int.from_bytes(frame[-2:], "big")))
