"""The speed and protocol compliance of our bus owner, against the simplest loop that keeps the same
silences."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from itertools import cycle
from statistics import median

import serial
from pymodbus.framer.rtu import FramerRTU

from edge_agent.drivers.bus import BusOwner, Priority
from edge_agent.drivers.modbus import build_frame, reply_length
from edge_agent.drivers.tty import TtyTransport
from edge_agent.process.event_loop import precise_loop
from tools.measure.figures import Figure
from tools.measure.rig import MeasureFault, Rig, Run, rig_of
from tools.measure.wire import Scan, rate, scan_of

BAUDS = (19200, 115200)


@dataclass(frozen=True, slots=True)
class Lap:
    """One contestant's turn: transactions a second, CPU microseconds a transaction, illegal requests."""

    rate: float
    cpu_us: float
    early: int


def bus(run: Run) -> list[Figure]:
    """Transactions/s on a real pseudo-terminal against the simulator process; both contestants run in this
    process, in turn, with the same requests; pairs interleaved, the first of a pair alternating."""
    return [figure for baud in BAUDS for figure in _at(run, baud)]


def _at(run: Run, baud: int) -> list[Figure]:
    pairs, seconds = run.pick(8, 2), 1.5 if not run.quick else 1.0
    with rig_of(run, baud) as rig:
        rig.start_simulator()
        scan = scan_of(rig.settings)
        port = rig.settings.buses["main"].port
        ours: list[Lap] = []
        bare: list[Lap] = []
        for n in range(pairs):
            for turn in (0, 1) if n % 2 else (1, 0):
                lap = _lap(rig, scan, port, seconds, ours=bool(turn))
                (ours if turn else bare).append(lap)
    early, bare_early = (sum(lap.early for lap in laps) for laps in (ours, bare))
    if bare_early:
        raise MeasureFault(f"the bare loop sent {bare_early} requests too early: its rate says nothing")
    value, limit = median(lap.rate for lap in ours), rate(scan)
    transactions = round(pairs * seconds * value)
    return [
        Figure(
            f"bus rate {baud}",
            value,
            "1/s",
            pairs,
            median(lap.rate for lap in bare),
            "a bare pyserial loop that keeps t3.5; median of the pairs' ratios",
            ">= 0.97 of it",
            "BusOwner + TtyTransport, each board, scale and thermometer in turn",
            median(a.rate / b.rate for a, b in zip(ours, bare, strict=True)),
        ),
        Figure(
            f"bus rate {baud}, of the wire", value, "1/s", pairs, limit, "computed: t3.5, 1 ms turnaround"
        ),
        Figure(
            f"early requests {baud}",
            early,
            "",
            transactions,
            target="0",
            note="of ours, counted by the simulator; n are transactions",
        ),
        Figure(
            f"CPU per transaction {baud}",
            median(lap.cpu_us for lap in ours),
            "us",
            pairs,
            median(lap.cpu_us for lap in bare),
            "the same of the bare loop",
            "",
            "process time of this process, bus alone",
        ),
    ]


def _lap(rig: Rig, scan: Scan, port: str, seconds: float, *, ours: bool) -> Lap:
    early = rig.wire()["early_requests"]
    talk = _ours if ours else _bare
    done, took_s, cpu_s = talk(scan, port, seconds)
    return Lap(done / took_s, cpu_s / done * 1e6, round(rig.wire()["early_requests"] - early))


def _ours(scan: Scan, port: str, seconds: float) -> tuple[int, float, float]:
    async def talk() -> tuple[int, float, float]:
        transport = TtyTransport(port, scan.baud)
        owner = BusOwner("main", transport, baud=scan.baud, bits_per_character=scan.bits)
        running = asyncio.create_task(owner.run())
        try:
            if not await owner.wait_open(5):
                raise MeasureFault(f"{port} could not be taken")
            await owner.transact(
                scan.doors[0].address, scan.doors[0].request, scan.doors[0].needs, Priority.POLL
            )
            begin_s, cpu_s, done = time.monotonic(), time.process_time(), 0
            for question in cycle(scan.once):
                if time.monotonic() - begin_s >= seconds:
                    break
                await owner.transact(question.address, question.request, question.needs, Priority.POLL)
                done += 1
            return done, time.monotonic() - begin_s, time.process_time() - cpu_s
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    with asyncio.Runner(loop_factory=precise_loop) as runner:  # as the daemon does
        return runner.run(talk())


def _bare(scan: Scan, port: str, seconds: float) -> tuple[int, float, float]:
    """Write, read exactly the reply, check its sum, sleep for the silence; frames are made beforehand."""
    plan = [(build_frame(q.address, q.request), reply_length(q.request), scan.gap_s(q)) for q in scan.once]
    with serial.Serial(port, scan.baud, timeout=0.5) as line:
        free_s = time.monotonic() + scan.silence_s
        begin_s, cpu_s, done = time.monotonic(), time.process_time(), 0
        for frame, size, gap_s in cycle(plan):
            left_s = free_s + gap_s - time.monotonic()
            if left_s > 0:
                time.sleep(left_s)
            if time.monotonic() - begin_s >= seconds:
                break
            line.write(frame)
            reply = line.read(size)
            free_s = time.monotonic()
            if len(reply) != size or not FramerRTU.check_CRC(reply[:-2], int.from_bytes(reply[-2:], "big")):
                raise MeasureFault(f"the bare loop got {reply.hex()!r} for {frame.hex()}")
            done += 1
        return done, time.monotonic() - begin_s, time.process_time() - cpu_s
