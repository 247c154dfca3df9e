"""Passes on what the buses, the link to the broker and the loop report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_agent.app.remote_parts import RemoteParts
from edge_agent.cloud.publisher import Publisher
from edge_agent.field.doors import Doors
from edge_agent.model import Alarm
from edge_agent.runtime.command_handler import CommandHandler
from edge_agent.runtime.history_check import HistoryCheck
from edge_agent.runtime.incoming import IncomingCommand
from edge_agent.runtime.loop import LockerLoop
from edge_agent.statemachine.inputs import Condition
from edge_agent.statemachine.outputs import Answer, Effect


def refusal(cause: str) -> Condition:
    """The condition of LINK_REFUSED: `cause` says what the broker refuses; "": it refuses nothing, and the
    alarm is cleared."""
    return Condition(Alarm.LINK_REFUSED, "", bool(cause), cause)


@dataclass(frozen=True, slots=True)
class DaemonLinkListener:
    """The daemon's `LinkListener`."""

    publisher: Publisher
    commands: CommandHandler
    history_check: HistoryCheck
    loop: LockerLoop
    remote: RemoteParts

    def link_is_up(self) -> None:
        """See `LinkListener`."""
        self.publisher.link_is_up()
        self.remote.link_is_up()

    def take_command(self, incoming: IncomingCommand) -> None:
        """See `LinkListener`."""
        if not self.remote.takes(incoming):
            self.commands.handle(incoming)

    def take_digest(self, payload: bytes) -> None:
        """See `LinkListener`."""
        self.history_check.retained_digest_read(payload)

    def link_refused(self, cause: str) -> None:
        """See `LinkListener`."""
        self.loop.submit(refusal(cause))


@dataclass(frozen=True, slots=True)
class DaemonBusListener:
    """The daemon's `BusListener` of one bus; `boards` are those with door contacts, by address."""

    on_port: Callable[[bool], None]
    boards: Mapping[int, str]
    doors: Doors

    def port_changed(self, up: bool) -> None:
        """See `BusListener`."""
        self.on_port(up)

    def spoke_unasked(self, address: int) -> None:
        """See `BusListener`. The doors of the board are read: an unasked frame is no reading."""
        board = self.boards.get(address)
        if board is not None:
            self.doors.expect_change(board)


@dataclass(frozen=True, slots=True)
class DaemonLoopListener:
    """The daemon's `LoopListener`. `start_effect` starts an effect (`Executor.carry_out`); `wake_followers`
    wakes those who follow the event log; `begin_journal` is called when the journal has a new id."""

    publisher: Publisher
    commands: CommandHandler
    start_effect: Callable[[Effect], None]
    wake_telemetry: Callable[[], None]
    wake_followers: Callable[[], None]
    begin_journal: Callable[[], None]

    def carry_out(self, effect: Effect) -> None:
        """See `LoopListener`."""
        self.start_effect(effect)

    def answered(self, request_key: str, reply: str, answer: Answer) -> None:
        """See `LoopListener`."""
        self.commands.answered(request_key, reply, answer)

    def events_committed(self) -> None:
        """See `LoopListener`."""
        self.publisher.events_committed()

    def state_changed(self) -> None:
        """See `LoopListener`."""
        self.publisher.state_changed()
        self.wake_telemetry()

    def lines_committed(self) -> None:
        """See `LoopListener`."""
        self.wake_followers()

    def new_journal(self) -> None:
        """See `LoopListener`."""
        self.begin_journal()

    def doors_busy(self, busy: bool) -> None:
        """See `LoopListener`."""
        self.publisher.doors_busy(busy)
