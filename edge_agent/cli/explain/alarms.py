"""The alarms in words: the source of the field manual's section on alarms, and of `edge-agent explain`.

Texts are Markdown; links lead to sections of the field manual. Line breaks do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.model import Alarm


@dataclass(frozen=True, slots=True)
class AlarmText:
    """One alarm in words. `machine` continues "The machine", `ends` continues "Ends"."""

    cause: str
    machine: str
    do: str
    """What a technician does."""
    ends: str
    note: str = ""
    """What else has to be known."""


ALARMS: dict[Alarm, AlarmText] = {
    Alarm.DOOR_AJAR: AlarmText(
        cause="""A door is open for longer than `doors.door_ajar_s` (120 s): not pushed shut, something in
            the gap, a weak spring, or a contact that does not close.""",
        machine="waits; the cell is not allocated.",
        do="""close the door. If it still reads open: `edge-agent bus doors CELL`; check contact, magnet,
            wire.""",
        ends="when the door reads closed.",
    ),
    Alarm.DOOR_FORCED: AlarmText(
        cause="""A door opened without a pulse and stayed open for 200 ms: force, a key, a latch that does
            not hold, or a broken wire of its contact. The machine cannot distinguish these.""",
        machine="""changes no reservation, and puts the contact in doubt (SENSOR_FAULT `CELL/contact`). A
            free cell awaits inspection.""",
        do="look into the cell and at the latch, close it, `edge-agent clear CELL`.",
        ends="when the cell is cleared, or when the door has been closed for 10 min.",
    ),
    Alarm.WRONG_DOOR: AlarmText(
        cause="""While one lock was pulsed, another door opened: the wires of two locks or of two contacts
            are crossed, or the other door was forced in that second.""",
        machine="""stops, makes both cells faulty, and pulses neither of them for the API, a code or a QR
            text.""",
        do="""`edge-agent bus doors` shows crossed contacts, `edge-agent open CELL --reason TEXT` crossed
            locks. Correct the wires, or the channels in the file. Then, for each of the two cells:
            `edge-agent open CELL --reason TEXT`, check that its own door opens, look inside, close it,
            `edge-agent clear CELL`; `clear` is refused before that. If a parcel was taken or put in
            meanwhile: `edge-agent resolve CELL` (see [A cell in doubt](#a-cell-in-doubt)).""",
        ends="when the cell is cleared.",
        note="**Never clear it without an explanation: the next customer would get a stranger's parcel.**",
    ),
    Alarm.LOCK_JAMMED: AlarmText(
        cause="""The lock was pulsed `unlock.attempts` times without movement: bolt under load, solenoid,
            its fuse or wire, or a contact that is stuck closed.""",
        machine="""makes the cell faulty and opens a maintenance ticket; a reservation with nothing in its
            cell yet moves to another cell in the same request.""",
        do="""push the door in and `edge-agent open CELL --reason TEXT`. No click: supply, fuse, wire,
            relay. Click and no movement: bolt. Door open but reported closed: the contact. Then
            `edge-agent clear CELL`.""",
        ends="when the cell is cleared, or when the lock opens again.",
    ),
    Alarm.DEVICE_SILENT: AlarmText(
        cause="A board does not answer: no power, a loose A or B, a wrong address, a defect.",
        machine="""continues without it; the cells of a silent lock board are not allocated, and a
            reservation whose cell was not opened yet moves to another cell at its drop-off; heaters and
            coolers on it switch off by themselves.""",
        do="""is its lamp lit? `edge-agent bus stats`, `edge-agent bus scan`, `edge-agent diagnose`; see
            [Replacing a board](#replacing-a-board).""",
        ends="when it answers.",
    ),
    Alarm.BUS_DOWN: AlarmText(
        cause="""A serial port or serial server is missing: the adapter was pulled, is defective, has
            another name now, or another program uses it.""",
        machine="retries every half second.",
        do="""`ls -l /dev/serial/by-id/`, plug it in, use another socket; a new adapter has a new name
            by-id: change `port`, then `edge-agent reload` (refused while reservations are live on it:
            stop, change, start). **Another adapter:** each bus is bound to the adapter on which it was
            first opened: by its serial number, else by its USB socket. If the alarm says `another adapter
            is at …` and names two, plug them back as they were. If the adapter was really replaced or
            moved, start once with `EDGE_AGENT_RUN_OPTIONS=--rewired` in `/run/edge-agent-options`, then
            check a door of each board.""",
        ends="when the port is open.",
    ),
    Alarm.SENSOR_FAULT: AlarmText(
        cause="""The place names the sensor. `CELL`: the thermometer does not answer, reports "no sensor",
            or reports an impossible value. `CELL/contact`: the door contact reads open although this
            machine did not open the door, or it chatters. `CELL/scale`: the scale answers that it cannot
            weigh. `CELL/scale zero`: its zero cannot be right.""",
        machine="""switches the heater or cooler of the cell off; it ignores a contact in doubt (see [A
            cell in doubt](#a-cell-in-doubt)); a scale in doubt does not prove a cell empty.""",
        do="""check probe, plug and wire; for a contact, repair it, close the door, `edge-agent clear
            CELL`; for a scale, check its supply and load, then `edge-agent tare CELL` of the empty,
            closed cell. What a probe can measure is set in its profile, `[temperature]`: `above_c` and
            `below_c` (-55 and 85 °C if not set), and `no_sensor_c`, values that mean that no sensor is
            there (-127 and 85.0). A jump of more than 10 °C in 10 s behind a closed door is a fault until
            readings are steady for 60 s. `edge-agent check` refuses a setpoint or limit beyond that
            range. For food the time without a reading counts as out of range.""",
        ends="""at the next good reading or the tare; for a contact when the cell is cleared, or at the
            next opening by its own lock.""",
    ),
    Alarm.CLIMATE_NO_EFFECT: AlarmText(
        cause="""A heater or cooler was on for `no_effect_min` and the temperature did not follow: defect,
            unplugged, fuse, thermal cut-out, relay, leaking door, or the probe is elsewhere.""",
        machine="switches it off, and retries after the same time.",
        do="check output, relay and probe; `edge-agent diagnose`.",
        ends="when it has an effect, or is no longer needed.",
    ),
    Alarm.TEMPERATURE_OUT_OF_RANGE: AlarmText(
        cause="""The parcel's food was beyond `limit_c` for longer than `allowed_min`, or nothing proves
            that it was not (lost sensor, no power).""",
        machine="latches it on the reservation, also across power loss; it does not prevent the pick-up.",
        do="""inform the platform: this food must not be eaten. `edge-agent reservations --temperatures
            RID` is the proof.""",
        ends="when the reservation ends.",
    ),
    Alarm.EMPTY_DROPOFF: AlarmText(
        cause="""The door closed after a drop-off and the scale shows nothing: the parcel was forgotten,
            or lies in another cell, or weighs less than `weight.empty_below_g`.""",
        machine="""counts it as dropped off, or with `empty_dropoff = "hold"` leaves it PENDING.""",
        do="ask the courier; `edge-agent open CELL --reason TEXT` and look inside.",
        ends="when the reservation ends.",
    ),
    Alarm.PARCEL_LEFT_BEHIND: AlarmText(
        cause="After the pick-up grace something still lies on the scale.",
        machine="does not allocate the cell before it is inspected.",
        do="open it, take the item out, close it, `edge-agent clear CELL`.",
        ends="when the cell is cleared.",
    ),
    Alarm.WEIGHT_CHANGED: AlarmText(
        cause="""The weight in a cell in use changed by more than `weight.weight_change_g` behind a closed
            door: something fell, the cell was opened unseen, the scale jumps.""",
        machine="only reports it.",
        do="look for a DOOR_FORCED near it in `edge-agent events --limit 200`; otherwise check the scale.",
        ends="when the reservation ends.",
    ),
    Alarm.CODE_GUESSING: AlarmText(
        cause="Five invalid entries within 5 minutes.",
        machine="""accepts no digits at the keypad for 60 s, doubling up to 1 h; QR texts are counted
            separately.""",
        do="""nothing; for a customer who needs a parcel meanwhile: `open-door` from support, or
            `edge-agent open CELL --reason TEXT`.""",
        ends="when the pause is over.",
    ),
    Alarm.CLOCK_UNSYNCED: AlarmText(
        cause="The wall clock was not synchronised since the boot.",
        machine="""continues to work; across a reboot no grace opens a door or frees a cell until the
            clock is synchronised.""",
        do="see [The clock](#the-clock).",
        ends="when the clock is synchronised.",
    ),
    Alarm.STORAGE_FAULT: AlarmText(
        cause="The journal cannot be written: disk full or nearly full, memory card read-only or failing.",
        machine="""takes no new reservations; pick-ups continue with 4 MB reserved for them; when that is
            used up it takes no commands.""",
        do="see [A full disk](#a-full-disk).",
        ends="by itself within 10 s after there is room.",
    ),
    Alarm.COMMAND_REJECTED: AlarmText(
        cause="""A command was unreadable, forged, not signed, sent a second time or meant for another
            machine.""",
        machine="did not carry it out.",
        do="""check who may publish at the broker (`config/mosquitto`), and whether gateway and machine
            have the same signing key. The alarm gives the reason; forged ones are in the log too.""",
        ends="an hour after the last one.",
    ),
    Alarm.LINK_REFUSED: AlarmText(
        cause="""The link is down and retrying will not help: an expired certificate, a key file that
            others can read, a broker of another CA, "not authorized".""",
        machine="still accepts codes and retries once a minute at most.",
        do="""the alarm names the cause; [Certificates and keys](#certificates-and-keys). A changed file
            is used at once.""",
        ends="when the link is up.",
        note=""""Another client has our machine_id": a second machine runs with a copy of this memory card.
            The two take the link from each other; each backs off, up to 10 min. The gateway grants nothing to
            either and names both at `/operations`. **Do:** find the machine that holds no parcels, stop
            it and take its memory card out; then press "Only the right machine runs now" at `/operations`.
            The gateway compares the journal of the remaining machine with what both sent, and continues;
            events of the other one go to `rejected`. **Ends** when the link has stood for 10 s.""",
    ),
    Alarm.JOURNAL_LOST: AlarmText(
        cause="""The journal does not hold this machine's history: its file is missing, empty or an older
            copy. The machine detects this by the files beside the journal (`.lock`, `.reserve`), the
            commissioning mark (`paths.mark`: it names the journal and, 30 s later at most, its last
            event), its own digest at the broker, and the gateway.""",
        machine="""puts every cell into AWAITING_INSPECTION and grants nothing; the kiosk asks customers
            to call for help. Reservations on which an older copy and the gateway agree stay in force.""",
        do="""do not clear anything yet: any cell may hold a parcel. With the link up, `edge-agent
            restore` shows what the gateway knows and asks; then those reservations hold their cells again
            and their codes work. If a parcel lies in another cell: `edge-agent restore --place RES=CELL`,
            during or after the restore. Then look into every other cell, and `edge-agent clear --all`. If
            there is nothing to restore: `edge-agent restore --none`, look into every cell, `edge-agent
            clear --all`. A cell whose reservation was restored cannot be cleared; after its pick-up it is
            inspected once.""",
        ends="when `edge-agent restore` is done.",
    ),
    Alarm.DEVICE_FAULT: AlarmText(
        cause="""Three different locks of one board failed in a row, or two contacts of one board changed
            in the same reading although neither door had been opened: the board's supply, a fuse, or a
            common wire.""",
        machine="marks no cell and moves no reservation.",
        do="""check the supply and the fuse of the board, and the common wire of its contacts; then open a
            free cell of it with `edge-agent open CELL --reason TEXT`.""",
        ends="when one of its locks works again.",
    ),
    Alarm.CERTIFICATE_EXPIRES: AlarmText(
        cause="""The certificate by which the machine proves itself to the broker ends within 30 days, and the
            gateway did not renew it. The alarm gives the reason.""",
        machine="""works as before, and asks again every hour or so; when the certificate has ended, the link
            is down.""",
        do="""by the reason: the address in `[enrolment]`, the network, the gateway's authority. If the
            gateway refuses the machine's key, claim the machine again: `edge-agent init --claim URL`.""",
        ends="when the certificate is renewed.",
    ),
}
"""Every alarm, in the order of the manual."""
