"""Durations of commands, doors and REST requests, against the wire's and the broker's own time."""

from __future__ import annotations

from statistics import median

from tools.measure.figures import Figure, p50_p99
from tools.measure.lives import Closing, Opening, person_at
from tools.measure.rig import Run, rig_of
from tools.measure.wire import closing_to_belief_s, command_to_coil_s, opening_to_reading_s, scan_of


def commands(run: Run) -> list[Figure]:
    """MQTT command to solenoid, opening to reply, closing to event: 19200 baud, 24 cells, bus fully polled,
    no gateway. Every second command is a drop-off, the others are pick-ups."""
    with rig_of(run) as rig:
        with person_at(rig, gateway=False) as person:
            for _ in range(run.pick(60, 6)):
                person.live()
        scan, timings = scan_of(rig.settings), person.timings
    hops = [o.observed_s - o.sent_s for o in timings.openings if o.observed_s is not None]
    hop_s = median(hops)

    def with_hop(wire: list[float]) -> list[float]:
        return [hop_s + at for at in wire]

    return [
        *p50_p99("MQTT hop", hops, note="a command's publishing to its receipt by a second bare client"),
        *p50_p99(
            "MQTT command -> coil",
            _to_coil(timings.openings),
            with_hop(command_to_coil_s(scan)),
            peer_is="median MQTT hop + computed wire: poll under way, one fresh door reading, write",
            targets=("<= 10", "<= 20"),
            note="bare client's publish to energised solenoid; fresh reading and journaled intent inside",
        ),
        *p50_p99(
            "door opened -> reply",
            [o.answered_s - o.opened_s for o in timings.openings],
            with_hop(opening_to_reading_s(scan)),
            peer_is="computed wire with only this board read + median MQTT hop; no journal",
            targets=("<= 15", "<= 25"),
            note="physical opening (energising + this lock's own time) to the reply at a bare client; "
            "reading, outcome's commit and broker inside",
        ),
        *p50_p99(
            "door closed -> event",
            [c.event_s - c.called_s for c in timings.closings],
            with_hop(closing_to_belief_s(scan)),
            peer_is="median MQTT hop + computed wire, a reading >= 600 ms after the 1st one; no journal",
            targets=("<= 40 + 600", "<= 80 + 600"),
            note="call to the simulator to DROPOFF on evt at a bare client; the 600 ms of a closing, "
            f"commit and broker inside; the call itself took {_call_ms(timings.closings)} ms",
        ),
    ]


def rest(run: Run) -> list[Figure]:
    """POST …/dropoffs to solenoid with the whole bench running; the pick-ups of the same lives go by a bare
    MQTT client and are shown beside it."""
    with rig_of(run) as rig, person_at(rig, gateway=True) as person:
        for _ in range(run.pick(40, 6)):
            person.live(rest_dropoff=True)
    timings = person.timings
    return [
        *p50_p99(
            "REST call -> coil",
            _to_coil(timings.by_rest),
            _to_coil(timings.openings),
            peer_is="MQTT command -> coil in the same lives, bare client",
            targets=("<= 25", "<= 60"),
            note="just before the request on a kept connection to the solenoid's energising",
        ),
        *p50_p99(
            "REST call -> answer",
            [o.answered_s - o.sent_s for o in timings.by_rest],
            [o.answered_s - o.sent_s for o in timings.openings],
            peer_is="the same by MQTT",
            note="the lock's opening time (40 to 90 ms) inside",
        ),
    ]


def _to_coil(openings: list[Opening]) -> list[float]:
    return [opening.coil_s - opening.sent_s for opening in openings]


def _call_ms(closings: list[Closing]) -> str:
    return f"{1000 * median(closing.closed_s - closing.called_s for closing in closings):.1f}"
