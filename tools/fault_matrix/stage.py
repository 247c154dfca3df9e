"""One cabinet in virtual time, and the people's acts at it: customers, a stranger's parcel, a technician."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Literal

from edge_agent.app import Agent
from edge_agent.config import Settings, load_settings
from edge_agent.errors import ConfigError
from edge_agent.model import Door, Purpose, Verdict, qr_text
from edge_agent.statemachine.outputs import Answer
from edge_agent.statemachine.state import LockerState
from tools.fault_matrix.books import TECHNICIAN, Books, DoorRequest
from tools.simulate.plant import Plant, with_journal
from tools.simulate.usb import UsbTree

CABINET = Path(__file__).with_name("cabinet.toml")
Kind = Literal["plain", "scale", "hot", "cold"]
PACKAGING: dict[Kind, dict[str, Any]] = {
    "plain": {"width": 200, "height": 100, "depth": 300},
    "scale": {"width": 200, "height": 300, "depth": 300},
    "hot": {"width": 200, "height": 100, "depth": 300, "heating_required": True},
    "cold": {"width": 200, "height": 100, "depth": 300, "cooling_required": True},
}
"""The packaging for which the machine chooses a cell of this kind."""
STRANGER, CUSTOMER = "res_stranger", "res_customer"
GRAMS = 700
CALL_S = 4.0
LOOK_S = 0.05
ALARM_BEAT_S = 0.5


class Unreached(Exception):
    """A healthy stage did not reach its phase."""


class Stage:
    """The cabinet with its people. All acts are recorded in `books`."""

    def __init__(self, folder: Path, seed: int, kind: Kind) -> None:
        settings = load_settings(CABINET)
        self.folder, self.kind = folder, kind
        self.journal = folder / "journal.sqlite"
        self.plant = Plant(with_journal(_marked(settings, folder), self.journal), seed)
        self.usb = UsbTree(folder / "sys")
        for number, name in enumerate(self.plant.cables):
            self.usb.plug(f"ttyUSB{number}", f"1.{number}", serial=f"{name}-7")
        self.plant.replaced["sysfs"] = self.usb.sysfs
        self.books = Books(self.plant.world)
        self.plant.broker.on_event = self._event
        self.codes: dict[str, tuple[str, str]] = {}
        """Drop-off and pick-up code of a reservation."""
        self.views: dict[str, dict[str, Any]] = {}
        """The gateway's record of each live reservation."""
        self.alarms_seen: set[str] = set()
        """Every alarm that stood at some time since this set was last emptied."""
        self.start_refused: str | None = None
        self.held: dict[str, dict[str, Any]] = {}
        """The live reservations as the gateway holds them."""
        self.gateway_asked_s: float | None = None
        """When a machine in doubt last received the gateway's reservations."""
        self.commands_sent_s: list[float] = []
        self.late_s = 0.0
        """How much later than usual a lock may open its door."""
        self.target: str = ""
        """The cell of a single-cell fault; chosen when the fault begins."""
        self._requests = 0
        self._watching: asyncio.Task[None] | None = None

    # The machine.

    async def start(self) -> None:
        """Starts the agent; a refused start is noted in `start_refused`."""
        try:
            self.plant.start()
            self.start_refused = None
        except ConfigError as error:
            self.start_refused = str(error)
            return
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch_alarms())
        await asyncio.sleep(1.0)

    async def kill(self) -> None:
        """Ends the agent like SIGKILL, if it runs."""
        if self.plant.agent is not None:
            await self.plant.kill()

    async def restart(self) -> None:
        """Kills the agent and starts it again."""
        await self.kill()
        await self.start()

    async def stop(self) -> None:
        """Ends the agent cleanly, if it runs."""
        if self.plant.agent is not None:
            await self.plant.stop()

    async def hold_views(self) -> None:
        """The gateway's projection follows the machine. Raises `Unreached` if no agent runs for a while."""
        await self.until(lambda: self.agent is not None)
        self.held.clear()
        for rid in tuple(self.state.reservations):
            reply = await self.call("get-reservation", {"reservation_id": rid})
            if "result" in reply:
                self.held[rid] = reply["result"]["reservation"]

    async def end(self) -> None:
        """Ends everything of the stage."""
        if self._watching is not None:
            self._watching.cancel()
        await self.kill()

    @property
    def agent(self) -> Agent | None:
        """The running agent."""
        return self.plant.agent

    @property
    def state(self) -> LockerState:
        """The state of the running agent. Raises `Unreached` while none runs."""
        if self.plant.agent is None:
            raise Unreached("no agent runs")
        return self.plant.agent.loop.state

    @property
    def now_s(self) -> float:
        """Virtual time."""
        return asyncio.get_running_loop().time()

    def standing(self) -> set[str]:
        """The alarms as the machine shows them, as NAME/place."""
        if self.plant.agent is None:
            return set()
        shown = set(self.plant.agent.loop.state.alarms)
        for row in self.plant.agent.report.alarms():
            place = "/".join(part for part in (row["label"], row["device"]) if part)
            shown.add(f"{row['alarm']}/{place}")
        return shown

    def granting_nothing(self) -> bool:
        """Whether the machine waits for its history, and allocates no cell."""
        return "frozen" in self.state.history or "JOURNAL_LOST/" in self.state.alarms

    async def _watch_alarms(self) -> None:
        while True:
            with contextlib.suppress(Unreached):
                self.alarms_seen |= set(self.state.alarms)
            await asyncio.sleep(ALARM_BEAT_S)

    def _event(self, event: dict[str, Any]) -> None:
        self.books.heard(event, self.now_s)

    def published(self, kind: str, rid: str) -> bool:
        """Whether an event of this type came for a reservation."""
        return any(
            e["event_type"] == f"EVENT_TYPE_{kind}" and e.get("reservation_id") == rid
            for e in self.books.events
        )

    # Requests.

    async def call(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Sends a command; returns an EXPIRED error if there is no reply."""
        self._requests += 1
        self.commands_sent_s.append(self.now_s)
        request = {"request_id": f"{name}-{self._requests}"}
        return await self.plant.broker.call(name, request | body, timeout_s=CALL_S)

    async def reserve(self, rid: str, *, grace_s: int = 3, kind: Kind | None = None) -> bool:
        """Whether a cell was allocated."""
        body = {
            "reservation_id": rid,
            "machine_id": self.plant.settings.machine.machine_id,
            "platform_order_id": rid,
            "packaging": PACKAGING[kind or self.kind],
            "grace_period_pickup_in_seconds": grace_s,
        }
        reply = await self.call("reserve", body)
        if "result" not in reply:
            return False
        made = reply["result"]["reservation"]
        self.books.given(rid, made["cell"]["description"], self.now_s)
        self.codes[rid] = (made["drop_off_code"], made["pickup_code"])
        self.views[rid] = made
        return True

    def cell_of(self, rid: str) -> str | None:
        """The cell of a reservation by the machine's state; else the last reported one."""
        with contextlib.suppress(Unreached):
            found = self.state.reservations.get(rid)
            if found is not None:
                self.books.cells_of.setdefault(rid, set()).add(found.cell)
                return found.cell
        view = self.views.get(rid)
        return None if view is None else str(view["cell"]["description"])

    def _note_request(self, actor: str, rid: str | None, cell: str | None = None) -> None:
        parcel_in = None if rid is None else self.books.where(rid)
        self.books.requests.append(DoorRequest(self.now_s, actor, cell, rid, parcel_in))

    async def ask(self, name: str, rid: str) -> dict[str, Any]:
        """A drop-off, pick-up or open-door by the API."""
        self._note_request("API", rid)
        why = {"reason": "matrix"} if name == "open-door" else {}
        reply = await self.call(name, {"reservation_id": rid} | why)
        self._moved(rid, reply)
        return reply

    def _moved(self, rid: str, reply: dict[str, Any]) -> None:
        cell = reply.get("result", {}).get("cell", {}).get("description")
        if cell is not None:
            self.books.cells_of.setdefault(rid, set()).add(cell)

    async def enter(self, rid: str, *, drop_off: bool, qr: bool) -> Answer | None:
        """A code or QR text at the kiosk; None if there is no answer."""
        if rid not in self.codes or self.plant.agent is None:
            return None
        self._note_request("QR" if qr else "code", rid)
        text = self.codes[rid][0 if drop_off else 1]
        if qr:
            text = qr_text(Purpose.DROPOFF if drop_off else Purpose.PICKUP, rid, text)
        return await self._answered(self.plant.agent.local.enter_code(text))

    async def open_by_hand(self, label: str) -> Answer | None:
        """A technician's `open`."""
        if self.plant.agent is None:
            return None
        self._note_request(TECHNICIAN, None, label)
        return await self._answered(self.plant.agent.local.open_cell(label, "matrix", "bob"))

    async def clear(self, label: str) -> bool:
        """A technician's `clear`; whether it was granted."""
        if self.plant.agent is None:
            return False
        answer = await self._answered(self.plant.agent.local.clear(label, "bob"))
        granted = answer is not None and answer.refusal is None
        if granted:
            self.books.cleared_s.append((self.now_s, label))
        return granted

    async def resolve(self, label: str, rid: str, verdict: Verdict) -> bool:
        """A technician's `resolve`; whether it was accepted."""
        if self.plant.agent is None:
            return False
        self.books.resolved.add(rid)
        answer = await self._answered(self.plant.agent.local.resolve(label, verdict, "bob"))
        return answer is not None and answer.refusal is None

    async def _answered(self, asking: Any) -> Answer | None:
        try:
            async with asyncio.timeout(12.0):
                answer: Answer = await asking
        except TimeoutError:
            return None
        return answer

    # Acts at the doors.

    def is_open(self, label: str | None) -> bool:
        """Whether a door physically stands open."""
        return label is not None and self.plant.world.cell(label).door is Door.OPEN

    async def opened(self, label: str | None, within_s: float = 1.0) -> bool:
        """Waits for a door to stand open, physically."""
        end_s = self.now_s + within_s
        while not self.is_open(label) and self.now_s < end_s:
            await asyncio.sleep(LOOK_S)
        return self.is_open(label)

    def put_in(self, label: str, rid: str) -> None:
        """A customer puts the parcel in, unless something lies there."""
        if self.is_open(label) and label not in self.books.parcels:
            self.plant.world.place(label, GRAMS)
            self.books.parcels[label] = rid

    def take_out(self, label: str) -> None:
        """A person takes out what lies in an open cell."""
        if self.is_open(label):
            self.plant.world.take(label)
            self.books.parcels.pop(label, None)

    def close(self, label: str) -> None:
        """A person closes a door."""
        if self.is_open(label):
            self.plant.world.close(label)
            owner = self.books.parcels.get(label)
            if owner is not None:
                self.books.closed_in_s.setdefault(owner, self.now_s)

    def close_all(self) -> None:
        """A person closes every open door."""
        for cell in self.plant.world.cells():
            self.close(cell.label)

    async def until(self, what: Any, limit_s: float = 8.0) -> bool:
        """Whether it became true in time."""
        end_s = self.now_s + limit_s
        while self.now_s < end_s:
            with contextlib.suppress(Unreached, KeyError):
                if what():
                    return True
            await asyncio.sleep(LOOK_S)
        return False


def _marked(settings: Settings, folder: Path) -> Settings:
    """The same machine with its commissioning mark in the folder."""
    paths = settings.paths.model_copy(update={"mark": str(folder / "mark" / "mark.json")})
    return settings.model_copy(update={"paths": paths})
