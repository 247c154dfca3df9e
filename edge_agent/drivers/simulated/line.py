"""One RS-485 bus: bits take their time, silence separates frames, two simultaneous senders spoil each other.

Half duplex. 3.5 characters of silence end a frame; above 19200 baud that is fixed at 1.75 ms (Modbus serial
line guide 1.02, 2.5.1.1; boards with protocols of their own are assumed to keep it too). The `Framing`
decides whether a frame is sound and whom it is for. All times are nanoseconds of the given clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal, Protocol, runtime_checkable

from edge_agent.drivers.simulated.framing import Framing, ModbusRtu
from edge_agent.drivers.simulated.trouble import LineTrouble

MAX_FRAME_BYTES = 256
FAST_BAUD = 19_200
FAST_SILENCE_NS = 1_750_000
TURNAROUND_NS = 1_000_000
TOLERANCE_NS = 100_000

Fate = Literal["sound", "early", "damaged", "collided"]


class Cancellable(Protocol):
    """What a timer returns."""

    def cancel(self) -> None:
        """Stops the timer; harmless afterwards."""


class LineDevice(Protocol):
    """A device that listens on the bus and may answer."""

    address: int

    def answer(self, frame: bytes, at_ns: int) -> bytes | None:
        """Acts on a frame at an instant; the reply's bytes, or None for no reply."""


@runtime_checkable
class Talker(LineDevice, Protocol):
    """A device that also sends unasked: after a transaction, its own or another's."""

    def unasked(self, at_ns: int) -> list[bytes]:
        """The frames that it sends at an instant; each is sent once."""


CallAt = Callable[[int, Callable[[], None]], Cancellable]


@dataclass(frozen=True, slots=True)
class FrameSeen:
    """A frame that passed (or, for a reply, is about to pass), for observers."""

    direction: Literal["request", "reply"]
    start_ns: int
    end_ns: int
    data: bytes
    fate: Fate


@dataclass(frozen=True, slots=True)
class WireFigures:
    """Traffic since the start. `requests` counts every frame of the master, sound or not; `replies` every
    frame of a device, asked for or not; `damaged` those, of either side, with a wrong checksum; `utilisation`
    is bit time over time; `answered_s` the time from the first bit of a request to the last of its reply, of
    all requests together."""

    requests: int
    replies: int
    damaged: int
    bytes: int
    seconds: float
    utilisation: float
    early_requests: int
    collisions: int
    answered_s: float = 0.0


@dataclass(eq=False, slots=True)
class _Reply:
    data: bytes
    start_ns: int
    end_ns: int
    lost: bool = False
    timers: list[Cancellable] = field(default_factory=list)


def silence_ns(baud: int, bits_per_character: int) -> int:
    """t3.5, the silence that ends a frame."""
    return FAST_SILENCE_NS if baud > FAST_BAUD else 35 * bits_per_character * 10**8 // baud


def _undamaged(frame: bytes) -> bytes:
    return frame


class WireLine:
    """A bus with its devices. `feed` takes what the master writes; `deliver` gets what it receives.

    - `bits_per_character`: start, eight data bits, parity if any, stop bits.
    - `clock_ns`, `call_at_ns`: the time, and a timer on it that may be late but not early.
    - `turnaround_ns`: from a device's action (end of the request's silence) to the first bit of its reply.
    - `tolerance_ns`: how much shorter than t3.5 a silence may measure without counting as early.
    - `chunk_bytes`: replies arrive in pieces of this size, each when its last bit has passed.
    - `medium`: the wire's effect on a frame (b"": nothing arrives).
    - `framing`: the protocol of the line.
    - `trouble`: the present faults. An adapter that echoes receives the master's bytes as they were written.
    - `on_frame`: called with every frame; the line itself keeps none.
    """

    def __init__(
        self,
        devices: Sequence[LineDevice],
        *,
        baud: int,
        clock_ns: Callable[[], int],
        call_at_ns: CallAt,
        deliver: Callable[[bytes], None],
        bits_per_character: int = 10,
        turnaround_ns: int = TURNAROUND_NS,
        tolerance_ns: int = TOLERANCE_NS,
        chunk_bytes: int | None = None,
        medium: Callable[[bytes], bytes] = _undamaged,
        framing: Framing | None = None,
        trouble: LineTrouble | None = None,
        on_frame: Callable[[FrameSeen], None] | None = None,
    ) -> None:
        self._devices = list(devices)
        self._talkers = [device for device in self._devices if isinstance(device, Talker)]
        self._framing = framing or ModbusRtu()
        self._baud = baud
        self._bits = bits_per_character
        self._clock_ns = clock_ns
        self._call_at_ns = call_at_ns
        self._deliver = deliver
        self._turnaround_ns = turnaround_ns
        self._chunk_bytes = chunk_bytes
        self._medium = medium
        self._trouble = trouble or LineTrouble(Random(0))
        self._on_frame = on_frame
        self.silence_ns = silence_ns(baud, bits_per_character)
        self._needed_silence_ns = self.silence_ns - tolerance_ns
        self._start_ns = clock_ns()
        # The frame that the master is sending, and when its bits pass.
        self._frame = bytearray()
        self._frame_start_ns = 0
        self._fate: Fate = "sound"
        self._frame_timer: Cancellable | None = None
        self._sent_until_ns = self._start_ns - self.silence_ns
        self._heard_until_ns = self._start_ns - self.silence_ns
        self._replies: list[_Reply] = []
        self._echoes: deque[Cancellable] = deque()
        self._said: dict[int, bytes] = {}
        self._answered_ns = 0
        self._counts = dict.fromkeys(("requests", "replies", "damaged", "bytes", "early", "collisions"), 0)

    def duration_ns(self, size: int) -> int:
        """The duration of `size` characters."""
        return size * self._bits * 10**9 // self._baud

    def figures(self) -> WireFigures:
        """The counters since the start."""
        counts = self._counts
        elapsed_ns = max(1, self._clock_ns() - self._start_ns)
        return WireFigures(
            requests=counts["requests"],
            replies=counts["replies"],
            damaged=counts["damaged"],
            bytes=counts["bytes"],
            seconds=elapsed_ns / 1e9,
            utilisation=min(1.0, self.duration_ns(counts["bytes"]) / elapsed_ns),
            early_requests=counts["early"],
            collisions=counts["collisions"],
            answered_s=self._answered_ns / 1e9,
        )

    def feed(self, data: bytes) -> None:
        """Bytes that the master wrote now; they pass after earlier ones."""
        if not data:
            return
        start_ns = max(self._clock_ns(), self._sent_until_ns)
        if self._frame and start_ns - self._sent_until_ns >= self._needed_silence_ns:
            # The silence was kept; only its timer is late.
            self._frame_over()
        if not self._frame:
            self._begin(start_ns)
        room = MAX_FRAME_BYTES - len(self._frame)
        self._frame += data[:room]
        if len(data) > room:
            self._spoil("damaged")
        self._counts["bytes"] += len(data)
        self._sent_until_ns = start_ns + self.duration_ns(len(data))
        if self._trouble.echoes:
            self._echo(data, start_ns)
        self._notice_second_frame()
        for reply in self._replies:
            if reply.start_ns < self._sent_until_ns and start_ns < reply.end_ns:
                self._collide(reply)
        if self._frame_timer is not None:
            self._frame_timer.cancel()
        self._frame_timer = self._call_at_ns(self._sent_until_ns + self.silence_ns, self._frame_over)

    def stop(self) -> None:
        """Discards everything in progress and cancels every timer."""
        if self._frame_timer is not None:
            self._frame_timer.cancel()
            self._frame_timer = None
        now_ns = self._clock_ns()
        self._frame.clear()
        self._sent_until_ns = min(self._sent_until_ns, now_ns)
        for timer in self._echoes:
            timer.cancel()
        self._echoes.clear()
        for reply in self._replies:
            if reply.start_ns < now_ns:
                self._heard_until_ns = max(self._heard_until_ns, min(reply.end_ns, now_ns))
            for timer in reply.timers:
                timer.cancel()
        self._replies.clear()

    def _echo(self, data: bytes, start_ns: int) -> None:
        """An adapter that echoes returns every byte when it has passed."""

        def hear(piece: bytes) -> Callable[[], None]:
            def arrive() -> None:
                self._echoes.popleft()
                self._deliver(piece)

            return arrive

        for when_ns, piece in self._pieces(data, start_ns):
            self._echoes.append(self._call_at_ns(when_ns, hear(piece)))

    def _begin(self, start_ns: int) -> None:
        """A new frame begins; if it is too soon after the last one, the devices take it for a part of
        that."""
        self._frame_start_ns = start_ns
        self._fate = "sound"
        ends = [reply.end_ns for reply in self._replies if reply.end_ns <= start_ns]
        quiet_since_ns = max([self._sent_until_ns, self._heard_until_ns, *ends])
        if start_ns - quiet_since_ns < self._needed_silence_ns and not self._passing(start_ns):
            self._counts["early"] += 1
            self._fate = "early"

    def _passing(self, at_ns: int) -> bool:
        return any(reply.start_ns <= at_ns < reply.end_ns for reply in self._replies)

    def _notice_second_frame(self) -> None:
        """A whole request followed by more without a silence: a second one came early and spoils both."""
        length = self._framing.request_length(bytes(self._frame))
        if length is None or len(self._frame) <= length or self._fate != "sound":
            return
        if self._framing.intact(bytes(self._frame[:length])):
            self._counts["early"] += 1
            self._fate = "early"

    def _spoil(self, fate: Fate) -> None:
        if self._fate == "sound":
            self._fate = fate

    def _collide(self, reply: _Reply) -> None:
        self._spoil("collided")
        if not reply.lost:
            reply.lost = True
            self._counts["collisions"] += 1

    def _frame_over(self) -> None:
        """The silence after a frame has passed: every device now knows that the frame is complete, and
        acts."""
        if self._frame_timer is not None:
            self._frame_timer.cancel()
            self._frame_timer = None
        frame, acts_ns = bytes(self._frame), self._sent_until_ns + self.silence_ns
        self._frame.clear()
        self._counts["requests"] += 1
        if self._fate == "sound" and self._interrupted(acts_ns):
            self._fate = "collided"
            self._counts["collisions"] += 1
        if self._fate == "sound":
            frame = self._trouble.spoil(self._medium(frame))
            if not self._framing.intact(frame):
                self._fate = "damaged"
        if self._fate == "damaged":
            self._counts["damaged"] += 1
        self._report("request", self._frame_start_ns, self._sent_until_ns, frame, self._fate)
        if self._fate != "sound":
            return
        asked = self._framing.addressee(frame)
        for device in self._devices:
            if asked in (None, device.address) and not self._trouble.silent(device.address):
                self._act(device, frame, acts_ns)
        self._haunt(asked, acts_ns)
        self._let_talk(acts_ns)

    def _interrupted(self, acts_ns: int) -> bool:
        """Whether a late reply began in the silence after the frame: then no device saw where it ended."""
        passing = any(reply.start_ns < acts_ns for reply in self._replies)
        return passing or self._heard_until_ns > self._sent_until_ns

    def _act(self, device: LineDevice, frame: bytes, acts_ns: int) -> None:
        """One device acts on a sound frame, and sends its reply after its turnaround."""
        address = device.address
        reply = device.answer(frame, acts_ns)
        if reply is not None:
            self._said[address] = reply
            start_ns = acts_ns + self._turnaround_ns + self._trouble.lateness_ns(address)
            self._answered_ns += start_ns + self.duration_ns(len(reply)) - self._frame_start_ns
            self._send(reply, start_ns)

    def _haunt(self, asked: int | None, acts_ns: int) -> None:
        """Devices with a ghost fault send their last reply again, some time after this transaction."""
        for address, data in self._said.items():
            after_ns = None if address == asked else self._trouble.ghost_ns(address)
            if after_ns is not None:
                self._send(data, self._quiet_ns(acts_ns) + self._turnaround_ns + after_ns)

    def _let_talk(self, acts_ns: int) -> None:
        """Devices with unasked frames send them, one after the other."""
        for device in self._talkers:
            if not self._trouble.silent(device.address):
                for data in device.unasked(acts_ns):
                    self._send(data, self._quiet_ns(acts_ns) + self._turnaround_ns)

    def _quiet_ns(self, acts_ns: int) -> int:
        """When the last reply in progress has passed."""
        return max([acts_ns, *(reply.end_ns for reply in self._replies)])

    def _send(self, data: bytes, start_ns: int) -> None:
        passed = self._trouble.answered(self._medium(data))
        reply = _Reply(passed, start_ns, start_ns + self.duration_ns(len(data)))
        self._counts["replies"] += 1
        self._counts["bytes"] += len(data)
        if reply.data != data:
            self._counts["damaged"] += 1
        for other in self._replies:
            if other.start_ns < reply.end_ns and start_ns < other.end_ns:
                other.lost = True
                self._collide(reply)
        if self._frame and self._frame_start_ns < reply.end_ns and start_ns < self._sent_until_ns:
            self._collide(reply)
        self._replies.append(reply)
        fate: Fate = "collided" if reply.lost else "sound" if self._framing.intact(reply.data) else "damaged"
        self._report("reply", start_ns, reply.end_ns, reply.data, fate)
        self._schedule(reply)

    def _schedule(self, reply: _Reply) -> None:
        *pieces, (_, last) = self._pieces(reply.data, reply.start_ns)
        for when_ns, piece in pieces:
            reply.timers.append(self._call_at_ns(when_ns, self._piece(reply, piece)))
        reply.timers.append(self._call_at_ns(reply.end_ns, lambda: self._passed(reply, last)))

    def _pieces(self, data: bytes, start_ns: int) -> Iterator[tuple[int, bytes]]:
        """The pieces that arrive together, each with the time of its last bit; at least one, which may be
        empty."""
        step = self._chunk_bytes or max(1, len(data))
        for first in range(0, max(1, len(data)), step):
            piece = data[first : first + step]
            yield start_ns + self.duration_ns(first + len(piece)), piece

    def _piece(self, reply: _Reply, piece: bytes) -> Callable[[], None]:
        def arrive() -> None:
            if not reply.lost:
                self._deliver(piece)

        return arrive

    def _passed(self, reply: _Reply, last: bytes) -> None:
        self._replies.remove(reply)
        self._heard_until_ns = max(self._heard_until_ns, reply.end_ns)
        if last and not reply.lost:
            self._deliver(last)

    def _report(
        self, direction: Literal["request", "reply"], start_ns: int, end_ns: int, data: bytes, fate: Fate
    ) -> None:
        if self._on_frame is not None:
            self._on_frame(FrameSeen(direction, start_ns, end_ns, data, fate))


class TextLine:
    """The wire of a scanner or keypad: text and `tail`, paced, in pieces as a UART hands them over."""

    PIECE_BYTES = 8

    def __init__(
        self,
        *,
        baud: int,
        clock_ns: Callable[[], int],
        call_at_ns: CallAt,
        deliver: Callable[[bytes], None],
        bits_per_character: int = 10,
        tail: bytes = b"\r",
    ) -> None:
        self._tail = tail
        self._character_ns = bits_per_character * 10**9 // baud
        self._clock_ns = clock_ns
        self._call_at_ns = call_at_ns
        self._deliver = deliver
        self._free_ns = clock_ns()

    def send(self, text: str) -> int:
        """Sends the text (UTF-8) and its tail after earlier ones; returns when the last bit passes."""
        data = text.encode() + self._tail
        start_ns = max(self._clock_ns(), self._free_ns)
        for first in range(0, len(data), self.PIECE_BYTES):
            piece = data[first : first + self.PIECE_BYTES]
            when_ns = start_ns + (first + len(piece)) * self._character_ns
            self._call_at_ns(when_ns, self._piece(piece))
        self._free_ns = start_ns + len(data) * self._character_ns
        return self._free_ns

    def _piece(self, piece: bytes) -> Callable[[], None]:
        return lambda: self._deliver(piece)
