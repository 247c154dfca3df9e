"""What each machine's messages show of it besides its state: when it was last seen, its losses of the link,
the figures of its telemetry.

Everything is kept in memory only, from this gateway's start on: telemetry is published again every minute,
and the retained states come with each connection. Used on the event loop only.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cloud_gateway.rate_limits import Bucket
from cloud_gateway.value_bounds import LIST_MAX, check, moment_s, read_json
from edge_agent.mqtt.messages import Received
from edge_agent.protocol.events import Online
from edge_agent.protocol.telemetry import CellFigures, MachineFigures, TelemetryBody
from edge_agent.protocol.topics import ROOT, machine_of

TELEMETRY = f"{ROOT}/+/telemetry"
"""The subscription that only the pages of the gateway need."""
TELEMETRY_MAX = 256 * 1024
"""The largest message of telemetry, in bytes: 512 cells need 70 kB."""
MESSAGES_PER_S, MESSAGES_BURST = 20.0, 200
"""How much telemetry of one machine is read; a machine publishes at most 20 messages a second."""
MACHINES_MAX = 10_000
WINDOW_S = 86_400.0
"""For how long losses of the link and restarts count."""
CHANGES_MAX = 1_000
"""How many changes of one machine are kept."""


@dataclass(slots=True)
class Observed:
    """What is known of one machine. Times are Unix seconds."""

    bucket: Bucket
    seen_s: float | None = None
    """When its last message came that was not a retained one."""
    online: bool | None = None
    since_s: float | None = None
    """Since when it is known to be online or offline."""
    run: str | None = None
    version: str | None = None
    went_offline_s: deque[float] = field(default_factory=lambda: deque(maxlen=CHANGES_MAX))
    came_online_s: deque[float] = field(default_factory=lambda: deque(maxlen=CHANGES_MAX))
    restarted_s: deque[float] = field(default_factory=lambda: deque(maxlen=CHANGES_MAX))
    cells: dict[str, CellFigures] = field(default_factory=dict)
    """By label, each as telemetry last gave it."""
    telemetry_s: float | None = None
    """When its last telemetry came."""
    figures: MachineFigures | None = None


class Observations:
    """Takes every message of every machine."""

    def __init__(
        self, clock: Callable[[], float], on_rejected: Callable[[str, str], None] = lambda _id, _kind: None
    ) -> None:
        """`clock` gives Unix seconds; `on_rejected` is called with the machine and the kind `telemetry`."""
        self._clock = clock
        self._on_rejected = on_rejected
        self._machines: OrderedDict[str, Observed] = OrderedDict()
        self.since_s = clock()
        """Since when this gateway observes."""

    def of(self, machine_id: str) -> Observed | None:
        """What is known of a machine; None if it has sent nothing."""
        return self._machines.get(machine_id)

    def take_message(self, message: Received) -> None:
        """Takes a message of a machine, as it arrived."""
        machine_id = machine_of(message.topic)
        if machine_id is None:
            return
        if not message.retained and not message.topic.endswith("/state/online"):
            self._entry(machine_id).seen_s = self._clock()
        if message.topic.endswith("/telemetry"):
            self._take_telemetry(machine_id, message.payload)

    def take_online(self, machine_id: str, state: Online, *, retained: bool) -> None:
        """Takes a `state/online` that was believed. The will of a machine is no sign of its life."""
        entry, now_s = self._entry(machine_id), self._clock()
        if state.online and not retained:
            entry.seen_s = now_s
        if entry.online is True and not state.online:
            entry.went_offline_s.append(now_s)
        if entry.online is False and state.online:
            entry.came_online_s.append(now_s)
        if entry.online is not state.online:
            entry.since_s = now_s
        if state.online:
            if entry.run not in (None, state.run):
                entry.restarted_s.append(now_s)
            entry.run = state.run
        entry.online, entry.version = state.online, state.agent_version

    def _entry(self, machine_id: str) -> Observed:
        entry = self._machines.get(machine_id)
        if entry is None:
            entry = self._machines[machine_id] = Observed(
                Bucket(MESSAGES_PER_S, MESSAGES_BURST, self._clock())
            )
            if len(self._machines) > MACHINES_MAX:
                self._machines.popitem(last=False)
        return entry

    def _take_telemetry(self, machine_id: str, payload: bytes) -> None:
        entry, now_s = self._entry(machine_id), self._clock()
        if entry.bucket.take(now_s):
            return  # the next beat repeats it
        try:
            body = TelemetryBody.model_validate(read_json(payload, TELEMETRY_MAX))
            check(body)
            if body.figures is not None and body.figures.up_since is not None:
                moment_s(body.figures.up_since)
        except ValueError:
            self._on_rejected(machine_id, "telemetry")
            return
        entry.telemetry_s = now_s
        if body.buses is not None:  # the beat has every cell
            entry.cells.clear()
            entry.figures = body.figures
        entry.cells |= {cell.label: cell for cell in body.cells}
        if len(entry.cells) > LIST_MAX:
            entry.cells.clear()


def offline_s(entry: Observed, now_s: float, from_s: float) -> float:
    """For how many seconds of the time from `from_s` on a machine is known to have been offline."""
    changes = [(at_s, False) for at_s in entry.went_offline_s] + [
        (at_s, True) for at_s in entry.came_online_s
    ]
    changes.sort()
    if not changes:
        return now_s - max(from_s, entry.since_s or now_s) if entry.online is False else 0.0
    total, down_s = 0.0, None if not changes[0][1] else from_s
    for at_s, online in changes:
        if online and down_s is not None:
            total += max(0.0, at_s - max(down_s, from_s))
            down_s = None
        elif not online:
            down_s = at_s
    return total + (max(0.0, now_s - max(down_s, from_s)) if down_s is not None else 0.0)
