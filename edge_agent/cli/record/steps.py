"""The steps of a recording: each has the technician do something, and takes the frames that pass meanwhile.

Nothing is sent for the recording. Readings are those of the daemon's polls; a lock is pulsed by `open`, which
is journaled as any other technician's act.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

import typer

from edge_agent.cli.daemon import REFUSED, call, console, rows_of
from edge_agent.cli.pin import act
from edge_agent.cli.restore import confirmed
from edge_agent.cli.text.language import _
from edge_agent.cli.text.lines import prompt
from edge_agent.drivers.profiles import Profile
from edge_agent.service.recording import Exchange, FramePairing, is_pulse, is_signal, reads_for

LONGEST_S = 90
"""How long frames are followed in one step."""
SETTLE_TRIES, SETTLE_PAUSE_S = 50, 0.1
"""How often, and with which pause, a door, weight or temperature is compared with what the person says."""
WEIGHT_SHARE, WEIGHT_G = 0.05, 20
"""How far a weight may be from the person's: this share of it, or this many grams."""
TEMPERATURE_C = 3.0
"""How far a temperature may be from that of the person's thermometer."""


class NotRecorded(Exception):
    """A step could not be recorded. The text says why."""


class TerminalDialog:
    """Asks the technician at the terminal."""

    def wait(self, instruction: str) -> None:
        """Returns when the technician has done it."""
        question = prompt(_("{instruction}; then press Enter", instruction=instruction), console)
        typer.prompt(question, default="", show_default=False, prompt_suffix=" ")

    def text(self, question: str) -> str:
        """An answer; it may be empty."""
        return str(typer.prompt(prompt(question, console), default="", show_default=False)).strip()

    def agrees(self, question: str) -> bool:
        """Whether the technician says yes."""
        return confirmed(question)


@dataclass(slots=True)
class VectorRecorder:
    """Records one device. `device`: the answer of `/v1/bus/devices/NAME`."""

    socket: Path
    device: dict[str, Any]
    profile: Profile
    talk: TerminalDialog
    pin_file: Path | None = None
    technician: str | None = None
    recorded: list[tuple[str, Exchange]] = field(default_factory=list)
    """Each vector with its name."""

    def cells(self, use: str) -> dict[str, int]:
        """The cells that use the device so, each with its channel."""
        return {row["cell"]: row["channel"] for row in self.device["cells"] if row["use"] == use}

    def doors(self) -> None:
        """Reads the contacts with every door closed."""
        labels = list(self.cells("door"))
        self.talk.wait(_("Close every door of this board ({cells})", cells=", ".join(labels)))
        self._until(lambda rows: all(rows[one]["door"] == "closed" for one in labels), _("a door reads open"))
        self._keep("doors closed", self._reads("doors"))

    def one_door(self) -> None:
        """Reads the contacts with one door open that a person opens by hand."""
        labels = list(self.cells("door"))
        query = "&".join(f"cell={quote(label, safe='')}" for label in labels)
        # While the doors are followed, an opening by hand raises no doubt of the contact.
        with closing(rows_of(self.socket, "GET", f"/v1/bus/doors?{query}")) as followed:
            next(followed)
            self.talk.wait(_("Open one door of this board by hand, or press its contact, and keep it so"))
            self._until(
                lambda rows: sum(rows[one]["door"] == "open" for one in labels) == 1,
                _("not exactly one door reads open"),
            )
            self._keep("one door open", self._reads("doors"))
            self.talk.wait(_("Close it again"))
            self._until(
                lambda rows: all(rows[one]["door"] == "closed" for one in labels), _("a door reads open")
            )

    def lock(self) -> None:
        """Pulses one lock that the technician names twice, and reads its door if the board has it, too."""
        label, channel = self._chosen_lock()
        closed = {e.asked: e.values for e in self._reads("doors")} if label in self.cells("door") else {}
        console.print(_("The lock of cell {cell} is pulsed now.", cell=label), highlight=False, markup=False)
        with self._following() as exchanges:
            reason = f"recording of the profile {self.device['profile']}"
            try:
                act(self.socket, label, "open", {"reason": reason}, self.pin_file, self.technician)
            except typer.Exit as ended:
                if ended.exit_code != REFUSED:
                    raise
                raise NotRecorded(_("the door of cell {cell} was not opened", cell=label)) from None
            pulse, opened = _pulse_and_door(exchanges, self.profile, channel, closed)
        if not self.talk.agrees(_("Did the door of cell {cell} open, and no other door?", cell=label)):
            raise NotRecorded(
                _(
                    "channel {channel} is not the lock of cell {cell}: check the wires first",
                    channel=channel,
                    cell=label,
                )
            )
        self._keep("recorded", pulse)
        self._keep(f"the door of channel {self.cells('door').get(label, 0)} open", opened)
        self.talk.wait(_("Close the door of cell {cell}", cell=label))
        self._until(
            lambda rows: rows[label]["door"] == "closed",
            _("the door of {cell} does not read closed", cell=label),
        )

    def _chosen_lock(self) -> tuple[str, int]:
        """The cell that the technician names and confirms, and the channel of its lock."""
        locks = self.cells("lock")
        rows = self._rows()
        free = [one for one in locks if rows[one]["status"] == "IDLE" and not rows[one]["reservation_id"]]
        if not free:
            raise NotRecorded(_("no cell of this board is free"))
        given = self.talk.text(
            _("Which lock may be pulsed? Free cells: {cells} (empty: none)", cells=", ".join(free))
        )
        label = next((one for one in free if one.casefold() == given.casefold()), None)
        if label is None:
            raise NotRecorded(
                _("{given} is no free cell of this board", given=given) if given else _("no lock was named")
            )
        again = self.talk.text(
            _("The door of {cell} will spring open. Type {cell} again to confirm", cell=label)
        )
        if again.casefold() != label.casefold():
            raise NotRecorded(_("the cell was not confirmed"))
        return label, locks[label]

    def scale(self) -> None:
        """Reads the scale empty, and with a weight that the technician knows."""
        (label,) = self.cells("scale")
        self.talk.wait(
            _("Open cell {cell} (`edge-agent open {cell} --reason scale`) and empty its scale", cell=label)
        )
        self._until(lambda rows: rows[label]["mass_stable"] is True, _("the weight is not stable"))
        empty_g = self._rows()[label]["mass_g"]
        self._keep("empty", self._reads("scale"))
        said = self.talk.text(_("Put a known weight on it. How many grams is it?"))
        if not said.isdecimal() or not int(said):
            raise NotRecorded(_("no weight was named"))
        wanted_g = int(said)
        within_g = max(WEIGHT_G, wanted_g * WEIGHT_SHARE)

        def fits(rows: dict[str, Any]) -> bool:
            mass_g = rows[label]["mass_g"]
            return mass_g is not None and bool(abs(mass_g - empty_g - wanted_g) <= within_g)

        self._until(fits, _("the scale does not show {weight_g} g", weight_g=wanted_g))
        self._keep(f"{wanted_g} g on it", self._reads("scale"))

    def temperature(self) -> None:
        """Reads the probes, and compares one of them with the technician's thermometer."""
        label = next(iter(self.cells("temperature")))
        said = self.talk.text(
            _("What does a thermometer beside the probe of {cell} show, in °C?", cell=label)
        )
        try:
            wanted_c = float(said.replace(",", "."))
        except ValueError:
            raise NotRecorded(_("no temperature was named")) from None

        def fits(rows: dict[str, Any]) -> bool:
            shown_c = rows[label]["temperature_c"]
            return shown_c is not None and bool(abs(shown_c - wanted_c) <= TEMPERATURE_C)

        self._until(
            fits,
            _(
                "the probe of {cell} does not show {temperature_c} °C",
                cell=label,
                temperature_c=f"{wanted_c:g}",
            ),
        )
        channel = self.cells("temperature")[label]
        self._keep(f"{wanted_c:g} °C at channel {channel}", self._reads("temperature"))

    def signal(self) -> None:
        """Makes one signal blink."""
        label, channel = next(iter(self.cells("signal").items()))
        with self._following() as exchanges:
            call(self.socket, "POST", f"/v1/cells/{quote(label, safe='')}/signal", {"seconds": 2})
            seen: dict[str, Exchange] = {}
            for exchange in exchanges:
                if is_signal(exchange.asked, self.profile, channel):
                    seen.setdefault(str(exchange.asked), exchange)
                if len(seen) == 2:
                    break
        if len(seen) < 2:
            raise NotRecorded(_("the signal was not switched on and off"))
        if not self.talk.agrees(_("Did the signal of cell {cell} blink, and no other?", cell=label)):
            raise NotRecorded(
                _(
                    "channel {channel} is not the signal of cell {cell}: check the wires first",
                    channel=channel,
                    cell=label,
                )
            )
        self._keep("signal", list(seen.values()))

    def checks(self) -> None:
        """Reads what the checks of the profile read."""
        with self._following() as exchanges:
            call(self.socket, "POST", "/v1/bus/check")
            self._keep("check", _first_of_each(exchanges, reads_for(self.profile, "checks")))

    def _reads(self, capability: str) -> list[Exchange]:
        with self._following() as exchanges:
            return _first_of_each(exchanges, reads_for(self.profile, capability))

    def _keep(self, what: str, exchanges: list[Exchange]) -> None:
        """Adds vectors; one that is there already is left out."""
        known = {(exchange.request, exchange.reply) for _, exchange in self.recorded}
        for exchange in exchanges:
            if (exchange.request, exchange.reply) not in known:
                self.recorded.append((f"{exchange.words(self.profile)} ({what})", exchange))

    def _rows(self) -> dict[str, Any]:
        return {row["label"]: row for row in call(self.socket, "GET", "/v1/cells")}

    def _until(self, holds: Callable[[dict[str, Any]], bool], otherwise: str) -> None:
        """Returns once the cells are so. Raises `NotRecorded` if they are not for some seconds."""
        pause = Event()
        for _attempt in range(SETTLE_TRIES):
            if holds(self._rows()):
                return
            pause.wait(SETTLE_PAUSE_S)
        raise NotRecorded(otherwise)

    @contextmanager
    def _following(self) -> Iterator[Iterator[Exchange]]:
        """The exchanges with the device from now on."""
        bus = quote(self.device["bus"], safe="")
        with closing(rows_of(self.socket, "GET", f"/v1/bus/monitor?bus={bus}&seconds={LONGEST_S}")) as rows:
            first = next(rows, None)  # from here on no frame is missed
            if first is None:
                raise NotRecorded(_("nothing passes on bus {bus}", bus=self.device["bus"]))
            yield _exchanges(rows, FramePairing(first["protocol"], self.device["address"], self.profile))


def _exchanges(rows: Iterator[dict[str, Any]], recording: FramePairing) -> Iterator[Exchange]:
    for row in rows:
        yield from recording.take(row["direction"], bytes.fromhex(row["hex"]), row["note"])


def _first_of_each(exchanges: Iterator[Exchange], wanted: list[Any]) -> list[Exchange]:
    """The first exchange of each of these requests. Raises `NotRecorded` if one of them does not pass."""
    found: dict[int, Exchange] = {}
    for exchange in exchanges:
        if exchange.asked in wanted:
            found.setdefault(wanted.index(exchange.asked), exchange)
        if len(found) == len(wanted):
            return [found[place] for place in sorted(found)]
    raise NotRecorded(_("the board was not read, or did not answer"))


def _pulse_and_door(
    exchanges: Iterator[Exchange], profile: Profile, channel: int, closed: dict[Any, tuple[int, ...]]
) -> tuple[list[Exchange], list[Exchange]]:
    """The exchanges of the pulse, and the first reading after it that differs from the `closed` one.

    Raises `NotRecorded` if they do not pass.
    """
    switched = profile.lock is not None and profile.lock.pulse.kind == "switched"
    pulse: dict[str, Exchange] = {}
    opened: list[Exchange] = []
    for exchange in exchanges:
        if is_pulse(exchange.asked, profile, channel):
            pulse.setdefault(str(exchange.asked), exchange)
        elif pulse and not opened and closed.get(exchange.asked, exchange.values) != exchange.values:
            opened = [exchange]
        if len(pulse) == 1 + switched and (opened or not closed):
            return list(pulse.values()), opened
    raise NotRecorded(_("the pulse, or the door that it opened, was not seen on the bus"))
