"""Relay and input modules that speak Modbus: eletechsup, LC, a cheap board with four relays, Moxa.

Register maps from integrators' public code and the makers' command sheets, as the profiles say. Where those
leave something open, the assumption is named at the place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_agent.drivers.simulated.slave import (
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    Execute,
    Rejected,
    Slave,
    address_and_value,
    read_bits,
    read_words,
    written_bits,
    written_words,
)
from edge_agent.drivers.simulated.waveshare import Relay
from edge_agent.drivers.simulated.world import Load

SECOND_NS = 1_000_000_000
TENTH_NS = 100_000_000
Inputs = Mapping[int, Callable[[int], int]]


def _relays(loads: Mapping[int, Load], channels: int) -> list[Relay]:
    return [Relay(loads.get(channel)) for channel in range(1, channels + 1)]


def _nothing(_: int) -> int:
    return 0


class CoilBoard(Slave):
    """Coils from `first` and discrete inputs from 0: functions 01, 02 (where there are inputs), 05 and 15.

    `on`: the value of function 05 that switches on; 0 switches off. Moxa's E1211 and E1214 are like this, and
    the cheap board with four relays, whose `on` is 0x0100 and whose coils begin at 1.
    """

    def __init__(
        self,
        address: int,
        loads: Mapping[int, Load],
        inputs: Inputs | None = None,
        *,
        coils: int,
        discretes: int = 0,
        on: int = 0xFF00,
        first: int = 0,
    ) -> None:
        super().__init__(address)
        self._relays = _relays(loads, coils)
        self._on = on
        self._first = first
        wired = inputs or {}
        levels = [wired.get(channel, lambda _: 0) for channel in range(1, discretes + 1)]
        self._functions: dict[int, Execute] = {
            1: lambda body, at_ns: read_bits(body, at_ns, [_nothing] * first + self._closed()),
            5: self._write_coil,
            15: self._write_coils,
        }
        if levels:
            self._functions[2] = lambda body, at_ns: read_bits(body, at_ns, levels)

    def functions(self) -> Mapping[int, Execute]:
        """Functions 01, 02, 05, 15."""
        return self._functions

    def _closed(self) -> list[Callable[[int], int]]:
        return [relay.closed for relay in self._relays]

    def _write_coil(self, body: bytes, at_ns: int) -> bytes:
        address, value = address_and_value(body)
        if value not in (self._on, 0):
            raise Rejected(ILLEGAL_VALUE)
        if not self._first <= address < self._first + len(self._relays):
            raise Rejected(ILLEGAL_ADDRESS)
        self._relays[address - self._first].switch(at_ns, None if value else at_ns)
        return body

    def _write_coils(self, body: bytes, at_ns: int) -> bytes:
        first, levels = written_bits(body, self._first + len(self._relays))
        if first < self._first:
            raise Rejected(ILLEGAL_ADDRESS)
        for relay, level in zip(self._relays[first - self._first :], levels, strict=False):
            relay.switch(at_ns, None if level else at_ns)
        return body[:4]


class LcBoard(CoilBoard):
    """LC-Modbus-8R: eight coils and inputs, and a flash by function 16: registers 3 + 5 × (channel - 1) and
    the next get the mode 4 and a time in tenths of a second, after which the board switches off by itself.

    Assumption: a plain off ends a flash. The other mode, 2 (flash off), is rejected here.
    """

    FLASH, STRIDE, FLASH_ON = 3, 5, 4

    def __init__(self, address: int, loads: Mapping[int, Load], inputs: Inputs) -> None:
        super().__init__(address, loads, inputs, coils=8, discretes=8)
        self._functions[16] = self._flash

    def _flash(self, body: bytes, at_ns: int) -> bytes:
        first, values = written_words(body)
        channel, odd = divmod(first - self.FLASH, self.STRIDE)
        if odd or not 0 <= channel < len(self._relays) or len(values) != 2:
            raise Rejected(ILLEGAL_ADDRESS)
        if values[0] != self.FLASH_ON or not values[1]:
            raise Rejected(ILLEGAL_VALUE)
        self._relays[channel].switch(at_ns, at_ns + values[1] * TENTH_NS)
        return body[:4]


class EletechsupRelays(Slave):
    """eletechsup R4D8A08: function 06; the register is the channel (1 to 8; 0: all of them).

    The value's high byte is the command: 1 on, 2 off, 3 toggle, 5 momentary (1 s), 6 delay by a number of
    seconds (0: cancel), 7 all on, 8 all off. Function 03 reads 1 for a relay that is on.

    A plain off is ignored while a delay runs. Assumptions: a cancel switches off only what the delay held;
    every other command ends a delay; command 4, which holds one relay only, is rejected here.
    """

    CHANNELS = 8
    ON, OFF, TOGGLE, MOMENTARY, DELAY, ALL_ON, ALL_OFF = 1, 2, 3, 5, 6, 7, 8

    def __init__(self, address: int, loads: Mapping[int, Load]) -> None:
        super().__init__(address)
        self._relays = _relays(loads, self.CHANNELS)
        self._delayed_until_ns = [0] * self.CHANNELS
        self._functions: dict[int, Execute] = {3: self._read, 6: self._write}

    def functions(self) -> Mapping[int, Execute]:
        """Functions 03 and 06."""
        return self._functions

    def _read(self, body: bytes, at_ns: int) -> bytes:
        relays = self._relays
        return read_words(body, lambda n: relays[n - 1].closed(at_ns) if 1 <= n <= self.CHANNELS else None)

    def _write(self, body: bytes, at_ns: int) -> bytes:
        register, value = address_and_value(body)
        command, seconds = value >> 8, value & 0xFF
        if register == 0 and command in (self.ALL_ON, self.ALL_OFF):
            for index in range(self.CHANNELS):
                self._command(index, self.ON if command == self.ALL_ON else self.OFF, 0, at_ns)
        elif not 1 <= register <= self.CHANNELS:
            raise Rejected(ILLEGAL_ADDRESS)
        elif command not in (self.ON, self.OFF, self.TOGGLE, self.MOMENTARY, self.DELAY):
            raise Rejected(ILLEGAL_VALUE)
        else:
            self._command(register - 1, command, seconds, at_ns)
        return body

    def _command(self, index: int, command: int, seconds: int, at_ns: int) -> None:
        relay = self._relays[index]
        delayed = at_ns < self._delayed_until_ns[index]
        until_ns: int | None = at_ns
        if command == self.OFF and delayed:
            return
        if command == self.DELAY:
            if not seconds and not delayed:
                return
            until_ns = at_ns + seconds * SECOND_NS
        elif command == self.ON or (command == self.TOGGLE and not relay.closed(at_ns)):
            until_ns = None
        elif command == self.MOMENTARY:
            until_ns = at_ns + SECOND_NS
        self._delayed_until_ns[index] = until_ns if command == self.DELAY and until_ns is not None else 0
        relay.switch(at_ns, until_ns)
