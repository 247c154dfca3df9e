"""How the codecs classify a recording, request by request, as the owner of the bus would."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edge_agent.drivers.decode import (
    USUAL_CHANNELS,
    Wire,
    codec_for,
    question_of,
    request_in_words,
    values_in_words,
)
from edge_agent.drivers.modbus import TcpCodec
from edge_agent.drivers.requests import AddressedRequest, Codec
from edge_agent.drivers.trace import TraceFrame, exchanges
from edge_agent.errors import BadReply, DeviceFault

LATE_S = 2.0
"""How long a reply is owed, as by a profile's default."""
Taken = Literal["answer", "exception", "damaged", "silence", "no reply is given", "not a request"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One request of a recording, and how its reply was classified.

    `values`: the values of an answer. `late`: replies to earlier requests that came meanwhile. `rest`:
    unclassified bytes.
    """

    at_s: float
    bus: str
    request: str
    taken: Taken
    words: str = ""
    values: tuple[int, ...] = ()
    late: tuple[str, ...] = ()
    unasked: int = 0
    rest: bytes = b""


def judge(frames: Iterable[TraceFrame], channels: int | None = None, late_s: float = LATE_S) -> list[Judged]:
    """Every request of a recording, bus by bus. `channels`: how many a lock board has, if known."""
    by_bus: dict[str, list[TraceFrame]] = {}
    for frame in frames:
        by_bus.setdefault(frame.bus, []).append(frame)
    return [one for mine in by_bus.values() for one in _Line(mine[0].wire, channels, late_s).judge(mine)]


class _Line:
    """One bus of a recording."""

    def __init__(self, wire: Wire, channels: int | None, late_s: float) -> None:
        self._wire: Wire = wire
        self._codec: Codec = codec_for(wire)
        self._channels = channels
        self._late_s = late_s
        self._owed: list[tuple[AddressedRequest, float]] = []

    def judge(self, frames: list[TraceFrame]) -> list[Judged]:
        """Every request of the line."""
        return [self._one(sent, [frame.data for frame in heard]) for sent, heard in exchanges(frames)]

    def _question(self, sent: bytes, heard: bytes) -> AddressedRequest | None:
        channels = self._channels
        if channels is None and self._wire != "modbus" and self._wire != "modbus-tcp":
            channels = channels_in_status(self._wire, heard)
        return question_of(self._wire, sent, channels)

    def _one(self, sent: TraceFrame, heard: list[bytes]) -> Judged:
        question = self._question(sent.data, b"".join(heard))
        if question is None:
            return Judged(sent.at_s, sent.bus, sent.hex, "not a request", rest=b"".join(heard))
        if self._wire == "modbus-tcp":
            self._codec = TcpCodec(int.from_bytes(sent.data[:2], "big") - 1)
            self._codec.encode(question)
        self._owed = [entry for entry in self._owed if entry[1] > sent.at_s]
        reply, late, unasked, rest = self._sort(question, heard)
        asked = f"{question.address}: {request_in_words(question.request)}"
        words = tuple(f"{q.address}: {request_in_words(q.request)}" for q in late)

        def judged(taken: Taken, said: str = "", values: tuple[int, ...] = ()) -> Judged:
            return Judged(sent.at_s, sent.bus, asked, taken, said, values, words, unasked, rest)

        if reply is None and not rest:
            if not self._codec.reply_bytes(question.request):
                return judged("no reply is given")
            if not self._codec.replies_identify_requests:
                self._owed.append((question, sent.at_s + self._late_s))
            return judged("silence")
        try:
            values = self._codec.parse(question, reply if reply is not None else rest)
        except DeviceFault as fault:
            return judged("exception", str(fault))
        except BadReply as fault:
            return judged("damaged", str(fault))
        return judged("answer", values_in_words(question.request, values), tuple(values))

    def _sort(
        self, question: AddressedRequest, heard: list[bytes]
    ) -> tuple[bytes | None, list[AddressedRequest], int, bytes]:
        """The reply, the requests of late replies, the number of unrequested frames, and the remaining
        bytes."""
        reply, late, unasked, rest, buffer = None, [], 0, b"", b""
        for arrived in heard:
            buffer += arrived
            while buffer:
                wanted = question if reply is None else None
                found = self._codec.first_frame(buffer, wanted, [entry[0] for entry in self._owed])
                if found is None:
                    break
                data = buffer[found.skipped : found.skipped + found.length]
                rest += buffer[: found.skipped]
                buffer = buffer[found.skipped + found.length :]
                if found.question is None:
                    unasked += 1
                elif found.question == wanted:
                    reply = data
                else:
                    late.append(found.question)
                    self._late_reply_came(found.question)
        return reply, late, unasked, rest + buffer

    def _late_reply_came(self, question: AddressedRequest) -> None:
        for entry in self._owed:
            if entry[0] == question:
                self._owed.remove(entry)
                return


def channels_in_status(wire: Wire, heard: bytes) -> int:
    """The number of channels that a lock board's status seems to have, by the bytes heard after its
    request."""
    if wire == "8a" and len(heard) > 4:
        return 8 * (len(heard) - 4)
    if wire == "wkly" and len(heard) > 8:
        return heard[8]
    return USUAL_CHANNELS[wire]
