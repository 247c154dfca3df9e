"""Judges a bus's wires and devices by its traffic: which faults it looks like, and how to distinguish them.

The order follows which fault hides which: an adapter that echoes makes everything else look wrong; late
replies and devices that send out of turn spoil the frames of others; only what is left is noise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal

from edge_agent.service.bus_service import BusPlace
from edge_agent.service.diagnosis.findings import Found, Verdict
from edge_agent.service.diagnosis.wire_watch import Answers, Passage

COMMON_LATE_S = 0.008
"""A bus whose quickest device is later than this has a delaying part in it: a board of any kind answers
within a few milliseconds, and no two kinds are equally slow by chance."""
OUTLIER_S = 0.010
"""A board that is later than boards of its kind by this much has a fault of its own."""
CLOSE_TO_LIMIT = 0.5
"""A device that takes more than this share of its profile's limit is close to being too late."""
OUT_OF_TURN = 3
"""This many frames out of turn are not chance."""
SPEAK_UNASKED = ("8a", "wkly")
OUT_OF_TURN_SPOKEN = 20
"""Boards of these protocols report door movements unasked; more frames than this are no such reports."""
OFTEN = 0.3
"""A device that answers this share of its requests in time is not a late one."""
MOSTLY = 0.9
"""A device that answers this share while another one spoils the bus is itself well."""
SPOILT = 2
"""This many frames may get lost on a long day without a fault."""

Probe = Literal["answers", "late", "silent"]
"""The result of listening to one device for a long time: an answer in time, one too late, none."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of one bus after the listening."""

    name: str
    place: BusPlace
    passage: Passage
    probes: Mapping[str, Probe]
    """For devices that did not answer or are not polled regularly."""
    cells_of: Mapping[str, Collection[str]]
    """The cells whose doors each board reads."""


def answering(heard: Heard) -> set[str]:
    """The devices whose answers are reliable, whatever else is wrong with them or their bus."""
    if not heard.passage.up or heard.passage.echoes:
        return set()
    devices = heard.passage.devices
    often = {d.name for d in devices if d.answered and d.answered >= OFTEN * d.requests}
    return often | {name for name, probe in heard.probes.items() if probe == "answers"}


def judge(heard: Heard) -> Iterator[Found]:
    """A row for the bus, and one for each device on it."""
    passage = heard.passage
    if not passage.up:
        yield _gone(heard)
        yield from _not_asked(heard, "its bus has no port")
    elif passage.echoes:
        yield _echo(heard)
        yield from _not_asked(heard, "while the adapter echoes, this cannot be judged")
    elif _all_silent(heard):
        yield _nobody(heard)
        yield from _not_asked(heard, "nothing is heard on its bus")
    else:
        yield from _devices(heard)


def _gone(heard: Heard) -> Found:
    step = (
        f"look whether the adapter is plugged in and has power (`ls {heard.place.port}`);"
        " try another USB port, then another adapter"
    )
    return Found(
        "bus",
        heard.name,
        "fault",
        f"its port {heard.place.port} is not there",
        step,
        ("bus_unplugged",),
    )


def _echo(heard: Heard) -> Found:
    return Found(
        "bus",
        heard.name,
        "fault",
        f"the adapter echoes what is sent ({heard.passage.echoes} times)",
        'switch its echo off (a jumper, often "RE"), or set local_echo = true for this bus',
        ("echo",),
    )


def _all_silent(heard: Heard) -> bool:
    silent = [
        d
        for d in heard.passage.devices
        if d.heard + d.other_address == 0 and heard.probes.get(d.name) != "answers"
    ]
    late = "late" in heard.probes.values()
    return len(silent) == len(heard.passage.devices) and not late


def _nobody(heard: Heard) -> Found:
    alone = len(heard.passage.devices) == 1
    what = "the only device does not answer" if alone else "no device answers"
    step = (
        "look at the boards' lamps: dark is no power (device_silent). Lit: A and B swapped or broken, the"
        " baud rate, or a line so disturbed that nothing gets through (noise): unplug all boards but the"
        " nearest and look again"
    )
    return Found("bus", heard.name, "fault", what, step, ("device_silent", "noise"))


def _not_asked(heard: Heard, why: str) -> Iterator[Found]:
    for device in heard.passage.devices:
        yield Found("device", device.name, "unknown", why, "put the bus right first, then look again")


def _devices(heard: Heard) -> Iterator[Found]:
    """A bus on which at least one device is heard."""
    devices = heard.passage.devices
    refused = [d for d in devices if _unusable(d)]
    late = [d for d in devices if d not in refused and _late(heard, d)]
    slow = [d for d in devices if d not in late and _slow(heard, d)]
    least = OUT_OF_TURN_SPOKEN if heard.place.wire in SPEAK_UNASKED else OUT_OF_TURN
    ghosts = [d for d in devices if d not in late and _talks_out_of_turn(d, least)]
    quiet = [d for d in devices if d.heard == 0 and heard.probes.get(d.name) == "silent"]
    timed = [d for d in devices if d.heard or d in late]
    common_s = min((d.least_late_s for d in timed if d.least_late_s is not None), default=0.0)
    prompt = [d for d in devices if d.answered and d.answered >= OFTEN * d.requests]
    delayed = len(timed) > 1 and ((late and not prompt) or common_s > COMMON_LATE_S)
    if delayed:
        yield _delayed(heard, common_s, bool(late))
        late, slow, ghosts = [], [], []
    elif heard.passage.other_requests >= OUT_OF_TURN:
        yield _other_master(heard)
    elif not late and not ghosts and not refused and _spoilt(heard, quiet):
        yield _noise(heard)
    else:
        lost = bool(late or ghosts)
        yield Found("bus", heard.name, "unknown" if lost else "good", _line(heard, lost), _after(lost))
    for device in devices:
        yield _device(heard, device, late, slow, ghosts, quiet, certain=not (delayed or late or ghosts))


def _too_early(device: Answers) -> bool:
    """Whether its answers come, but sooner than the line can carry them. A board that repeats its reply also
    answers in time."""
    seldom = device.answered < OFTEN * max(1, device.requests)
    return seldom and device.early >= OUT_OF_TURN and device.early >= OFTEN * device.requests


def _foreign(device: Answers) -> bool:
    """Whether its answers name requests that were never sent."""
    seldom = device.answered < OFTEN * max(1, device.requests)
    return seldom and device.foreign >= OUT_OF_TURN and device.foreign >= OFTEN * device.requests


def _elsewhere(device: Answers) -> bool:
    """Whether its answers name another device."""
    return device.other_address >= OUT_OF_TURN and device.other_address >= OFTEN * device.requests


def _refuses(device: Answers) -> bool:
    """Whether it answers most requests with an exception."""
    return device.exceptions >= OUT_OF_TURN and device.exceptions >= OFTEN * device.requests


def _unusable(device: Answers) -> bool:
    """Whether its answers come and are of no use, whatever the line is like."""
    return _too_early(device) or _foreign(device) or _elsewhere(device) or _refuses(device)


LOST_SHARE = 10
"""A device loses requests regularly if one in this many gets no answer."""


def _late(heard: Heard, device: Answers) -> bool:
    """Whether its answers come, but too late to be of use."""
    if heard.probes.get(device.name) == "late":
        return True
    seldom = device.answered < OFTEN * max(1, device.requests)
    # A reply that is late by the time between two requests is taken for the answer to the second one.
    lost = device.timeouts * LOST_SHARE >= device.requests and device.out_of_turn == 0
    return (seldom or lost) and device.timeouts > 0 and device.late_replies + device.unasked > 0


def _slow(heard: Heard, device: Answers) -> bool:
    """Whether its answers come in time, but later than they should."""
    late_s = device.least_late_s
    if late_s is None or not heard.place.baud:
        return False
    placed = heard.place.device_at(device.address)
    assert placed is not None
    if late_s > CLOSE_TO_LIMIT * placed.profile.bus.turnaround_ms / 1000:
        return True
    likes = [
        other.least_late_s
        for other in heard.passage.devices
        if other is not device
        and other.least_late_s is not None
        and _profile(heard, other) == placed.profile_name
    ]
    return bool(likes) and late_s > median(likes) + OUTLIER_S


def _profile(heard: Heard, device: Answers) -> str:
    placed = heard.place.device_at(device.address)
    assert placed is not None
    return placed.profile_name


def _talks_out_of_turn(device: Answers, least: int) -> bool:
    in_time = device.answered >= OFTEN * max(1, device.requests)
    return in_time and device.out_of_turn + device.unasked + device.late_replies >= least


def _spoilt(heard: Heard, quiet: list[Answers]) -> bool:
    """Whether frames get lost for which no single device is to blame."""
    others = [d for d in heard.passage.devices if d not in quiet]
    lost = sum(d.bad_replies + d.timeouts for d in others)
    hit = [d for d in others if d.bad_replies + d.timeouts]
    return lost > SPOILT and (len(hit) > 1 or sum(d.bad_replies for d in others) > SPOILT)


def _delayed(heard: Heard, common_s: float, lost: bool) -> Found:
    much = "all replies come too late" if lost else f"every reply comes {common_s * 1000:.0f} ms late"
    alone = "" if lost else ", whichever device is asked"
    step = (
        "an adapter or serial server that collects bytes before it passes them on: set an FTDI adapter's"
        " latency_timer to 1 (the udev rule does), look at the server's settings, try another adapter"
    )
    return Found("bus", heard.name, "fault" if lost else "warning", much + alone, step, ("delay_ms",))


def _noise(heard: Heard) -> Found:
    devices = heard.passage.devices
    bad, lost = (sum(getattr(d, name) for d in devices) for name in ("bad_replies", "timeouts"))
    asked = heard.passage.total("requests")
    step = (
        "look at the 120 Ω at both ends and nowhere else, the shield on one side, the screws of A and B,"
        " cables beside mains or motors; take boards off one by one: if it ends with one, it is that one"
    )
    finding = f"of {asked} requests {bad} got a damaged reply and {lost} none, from several devices"
    return Found("bus", heard.name, "fault", finding, step, ("noise",))


def _line(heard: Heard, lost: bool) -> str:
    if lost:
        return "frames may get lost because of one of its devices"
    asked, late_s = heard.passage.total("requests"), [d.least_late_s for d in heard.passage.devices]
    known = [late for late in late_s if late is not None]
    quickest = f", the quickest answer after {min(known) * 1000:.0f} ms" if known else ""
    return f"{asked} requests{quickest}"


def _after(lost: bool) -> str:
    return "put that device right first, then look again" if lost else ""


def _device(
    heard: Heard,
    device: Answers,
    late: list[Answers],
    slow: list[Answers],
    ghosts: list[Answers],
    quiet: list[Answers],
    *,
    certain: bool,
) -> Found:
    alone = len(heard.passage.devices) == 1
    if _too_early(device):
        return _early(heard, device)
    if _foreign(device):
        return _other_transaction(heard, device)
    if _elsewhere(device):
        return _other_address(device)
    if _refuses(device):
        return _refusing(device)
    if device in late:
        kinds = ("late_reply", "delay_ms") if alone else ("late_reply",)
        step = _swap(
            heard, device, "its answers come, but too late: restart it (power), look for newer firmware"
        )
        return Found("device", device.name, "fault", "answers too late to be understood", step, kinds)
    if device in quiet:
        return _silent(heard, device)
    if device in ghosts:
        count = device.out_of_turn + device.unasked + device.late_replies
        step = _swap(
            heard, device, "a board that sends unasked damages the replies of others: restart it (power)"
        )
        finding = f"sends unasked ({count} times): it repeats its last reply"
        return Found("device", device.name, "fault", finding, step, ("ghost_reply",))
    if device in slow:
        kinds = ("late_reply", "delay_ms") if alone else ("late_reply",)
        much = f"answers after {1000 * (device.least_late_s or 0):.0f} ms, more than it should"
        step = _swap(heard, device, "still in time; restart it (power) before it gets worse")
        return Found("device", device.name, "warning", much, step, kinds)
    return _unremarkable(heard, device, certain)


def _early(heard: Heard, device: Answers) -> Found:
    finding = f"answers too early ({device.early} times): sooner than {heard.place.baud} baud can carry"
    step = (
        f"if the board is on USB itself, set pace = false for bus {heard.name}; else check that its baud rate"
        f" is {heard.place.baud}, and that no other master is on the line"
    )
    return Found("device", device.name, "fault", finding, step, ("early_reply",))


def _other_transaction(heard: Heard, device: Answers) -> Found:
    finding = f"answers with a wrong transaction number ({device.foreign} times)"
    step = (
        "the gateway does not return the transaction number of a request (Modbus TCP): look for newer"
        f" firmware, or set check_transaction = false for bus {heard.name}"
    )
    return Found("device", device.name, "fault", finding, step, ("wrong_transaction",))


def _other_address(device: Answers) -> Found:
    finding = f"answers as another device ({device.other_address} times)"
    step = (
        f"the board or its gateway puts another address into its replies than {device.address}: set its"
        " address (unit) right, or configure the one that it answers with; `edge-agent bus monitor` shows it"
    )
    return Found("device", device.name, "fault", finding, step, ("wrong_unit",))


def _refusing(device: Answers) -> Found:
    finding = f"refuses {device.exceptions} of {device.requests} requests with an exception"
    step = (
        "it is there and understands the line: compare board and firmware with its profile, or what is"
        " connected to it; `edge-agent bus monitor` shows the exception: 1 to 3 are another kind of board,"
        " 4 is a fault of its own"
    )
    return Found("device", device.name, "fault", finding, step, ("exceptions",))


def _other_master(heard: Heard) -> Found:
    finding = f"another master sends on this line ({heard.passage.other_requests} requests that are not ours)"
    step = (
        "one pair of wires has one master: look for another controller, a maker's tool or a second adapter on"
        " these wires, and take it off"
    )
    return Found("bus", heard.name, "fault", finding, step, ("other_master",))


def _padded(heard: Heard, device: Answers) -> Found:
    finding = f"{device.answered} answers, {device.padded} with extra bytes before or after them"
    step = (
        "the replies are taken by their checksum, so it works; the board or the adapter changes the line's"
        " direction late: look at the bias and the 120 Ω, try another adapter"
    )
    return Found("device", device.name, "warning", finding, step, ("stray_bytes",))


PADDED = 3
"""This many replies with extra bytes are not chance."""


def _unremarkable(heard: Heard, device: Answers, certain: bool) -> Found:
    answered = device.answered > 0 or heard.probes.get(device.name) == "answers"
    nearly_all = device.answered >= MOSTLY * device.requests
    verdict: Verdict = "good" if answered and (certain or nearly_all) else "unknown"
    if not answered:
        return Found(
            "device", device.name, "unknown", "its answers were lost", "look again when the rest is right"
        )
    if verdict == "good" and device.padded >= PADDED:
        return _padded(heard, device)
    lost = device.timeouts + device.bad_replies
    finding = f"{device.answered} answers" + (f", {lost} lost" if lost else "")
    return Found("device", device.name, verdict, finding, "" if verdict == "good" else _after(True))


def _silent(heard: Heard, device: Answers) -> Found:
    others = [other for other in heard.passage.devices if other.heard]
    if sum(d.answered for d in others) < OFTEN * sum(d.requests for d in others):
        why = "does not answer; on a line as bad as this that may be the line"
        return Found("device", device.name, "unknown", why, _after(True))
    doors = heard.cells_of.get(device.name, ())
    blind = f"; the doors of {', '.join(doors)} cannot be read" if doors else ""
    step = (
        f"look at its lamp: dark is no power. Lit: the screws of A and B, and whether its address is still"
        f" {device.address} (`edge-agent bus scan`); then swap the board"
    )
    return Found("device", device.name, "fault", f"does not answer{blind}", step, ("device_silent",))


def _swap(heard: Heard, device: Answers, first: str) -> str:
    return f"{first}; then swap the board at address {device.address} of bus {heard.name}"
