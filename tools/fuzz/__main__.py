"""`python -m tools.fuzz [--frames N] [--seed S] [--codec NAME]`: damaged frames into every codec, as the bus
owner hands them over: piece by piece, with owed replies, judged when the time is over.

Exit codes: 0 only bus faults occurred, 1 another error occurred or memory grew, 2 bad usage.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from dataclasses import dataclass, field
from random import Random

from edge_agent.drivers.bus import LONGEST_UNFRAMED
from edge_agent.drivers.requests import AddressedRequest, Codec
from edge_agent.errors import BusFault, DeviceFault
from tools.fuzz.cases import CASES, Case

GROWTH_KIB = 256
"""How much the memory may grow between the run's first tenth and its end."""


@dataclass(slots=True)
class Outcome:
    """The results of the frames of one codec."""

    name: str
    frames: int = 0
    values: int = 0
    """Accepted as a good reply: damage that a checksum of 8 or 16 bits does not detect, or none."""
    faults: int = 0
    others: list[str] = field(default_factory=list)
    longest_buffer: int = 0
    grown_kib: float = 0.0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether only bus faults occurred, and memory did not grow."""
        return (
            not self.others and self.grown_kib <= GROWTH_KIB and self.longest_buffer <= 2 * LONGEST_UNFRAMED
        )


def damaged(rng: Random, frame: bytes) -> bytes:
    """A frame as a bad wire delivers it."""
    spoilt = bytearray(frame)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        act, place = rng.randrange(7), rng.randrange(len(spoilt) + 1)
        if act == 0 and place < len(spoilt):
            spoilt[place] ^= 1 << rng.randrange(8)
        elif act == 1:
            del spoilt[place:]
        elif act == 2:
            spoilt[place:place] = rng.randbytes(rng.randrange(1, 9))
        elif act == 3:
            spoilt = bytearray(rng.choice((b"\x00", b"\xff"))) + spoilt
        elif act == 4 and place < len(spoilt):
            spoilt[place] = rng.choice((frame[0], 0, 0xFF, rng.randrange(256)))
        elif act == 5:
            spoilt += frame[: rng.randrange(len(frame) + 1)]
        else:
            del spoilt[place : place + rng.randrange(1, 4)]
    return bytes(spoilt)


def judge(codec: Codec, heard: bytearray, wanted: AddressedRequest, owed: list[AddressedRequest]) -> bool:
    """Judges received bytes like the owner of a bus; returns whether a reply was found. Raises what the codec
    raises."""
    while True:
        found = codec.first_frame(bytes(heard), wanted, owed) if heard else None
        if found is None:
            return False
        data = bytes(heard[found.skipped : found.skipped + found.length])
        del heard[: found.skipped + found.length]
        if found.skipped + found.length == 0:
            raise AssertionError("a frame of no length")
        if found.question == wanted:
            codec.parse(wanted, data)
            return True


def run(case: Case, frames: int, seed: int) -> Outcome:
    """Feeds a number of damaged frames into one codec."""
    rng, outcome = Random(f"{seed}/{case.name}"), Outcome(case.name)
    codec, heard, begun_s = case.codec(), bytearray(), time.monotonic()
    tracemalloc.start()
    settled_b = 0
    for number in range(frames):
        wanted = rng.choice(case.questions)
        owed = rng.sample(case.questions, rng.randrange(3))
        codec.encode(wanted)
        heard += damaged(rng, rng.choice(case.replies))
        outcome.longest_buffer = max(outcome.longest_buffer, len(heard))
        try:
            outcome.values += judge(codec, heard, wanted, owed)
            if heard and rng.random() < 0.5:  # its time is over: judge what has arrived
                rest, heard = bytes(heard), bytearray()
                codec.parse(wanted, rest)
                outcome.values += 1
        except (BusFault, DeviceFault):
            outcome.faults += 1
        except Exception as error:  # this is the error that the run searches for
            outcome.others.append(f"{type(error).__name__}: {error} for {heard.hex()}")
        if len(heard) > LONGEST_UNFRAMED:
            heard.clear()
        outcome.frames += 1
        if number == frames // 10:
            settled_b = tracemalloc.get_traced_memory()[0]
    outcome.grown_kib = (tracemalloc.get_traced_memory()[0] - settled_b) / 1024
    tracemalloc.stop()
    outcome.seconds = time.monotonic() - begun_s
    return outcome


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line, runs, prints a line for each codec; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000, help="for each codec (default: 1,000,000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--codec", choices=[case.name for case in CASES], help="only this one")
    options = parser.parse_args(arguments)
    good = True
    for case in CASES:
        if options.codec not in (None, case.name):
            continue
        outcome = run(case, options.frames, options.seed)
        good = good and outcome.good
        print(
            f"{outcome.name}: {outcome.frames} frames, {outcome.faults} bus faults, {outcome.values} read, "
            f"{len(outcome.others)} other exceptions, buffer at most {outcome.longest_buffer} bytes, "
            f"memory {outcome.grown_kib:+.0f} KiB, {outcome.seconds:.0f} s",
            flush=True,
        )
        for other in outcome.others[:5]:
            print(f"  {other}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
