"""Waveshare's relay boards: Modbus RTU Relay 8CH and Modbus RTU IO 8CH.

Register maps: Waveshare wiki, "Modbus RTU Relay" and "Modbus RTU IO 8CH", protocol sections. A channel mode
other than 0 is stored and read back, but its inputs drive no relay here; the serial settings cannot be
changed.
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
from edge_agent.drivers.simulated.world import Load

CHANNELS = 8
ALL_CHANNELS = 0x00FF
PULSE = 0x0200
PULSE_UNIT_NS = 100_000_000
PULSE_MAX = 0x7FFF
ON, OFF, TOGGLE = 0xFF00, 0x0000, 0x5500
MODE = 0x1000
MODE_MAX = 3
UART = 0x2000
ADDRESS = 0x4000
VERSION = 0x8000
UART_CODES = {4800: 0, 9600: 1, 19200: 2, 38400: 3, 57600: 4, 115200: 5}
"""Low byte of register 0x2000; the high byte is the parity: 0 none, 1 even, 2 odd."""


class Relay:
    """One relay contact and its load."""

    def __init__(self, load: Load | None) -> None:
        self._load = load
        self._until_ns: int | None = 0

    def closed(self, at_ns: int) -> int:
        """1 while the contact is closed."""
        return 1 if self._until_ns is None or at_ns < self._until_ns else 0

    def switch(self, at_ns: int, until_ns: int | None) -> None:
        """Closes the contact until an instant (None: no end); one not after `at_ns` opens it."""
        self._until_ns = until_ns
        if self._load is not None:
            self._load(at_ns, until_ns)


class RelayBoard(Slave):
    """Waveshare Modbus RTU Relay 8CH. `loads` by channel, counted from 1."""

    def __init__(
        self, address: int, loads: Mapping[int, Load], *, uart: int = 0x0001, version: int = 200
    ) -> None:
        super().__init__(address)
        self._relays = [Relay(loads.get(channel)) for channel in range(1, CHANNELS + 1)]
        self._registers = {UART: uart, VERSION: version}
        self._functions: dict[int, Execute] = {
            1: lambda body, at_ns: read_bits(body, at_ns, [relay.closed for relay in self._relays]),
            3: lambda body, _: read_words(body, self._register),
            5: self._write_coil,
            6: self._write_register,
            15: self._write_coils,
            16: self._write_registers,
        }

    def functions(self) -> Mapping[int, Execute]:
        """Functions 01, 03, 05, 06, 15, 16."""
        return self._functions

    def _register(self, address: int) -> int | None:
        return self.address if address == ADDRESS else self._registers.get(address)

    def _write_coil(self, body: bytes, at_ns: int) -> bytes:
        address, value = address_and_value(body)
        if address == ALL_CHANNELS:
            self._command(self._relays, value, at_ns)
        elif address < CHANNELS:
            self._command([self._relays[address]], value, at_ns)
        elif PULSE <= address < PULSE + CHANNELS:
            if not 1 <= value <= PULSE_MAX:
                raise Rejected(ILLEGAL_VALUE)
            self._relays[address - PULSE].switch(at_ns, at_ns + value * PULSE_UNIT_NS)
        else:
            raise Rejected(ILLEGAL_ADDRESS)
        return body

    def _command(self, relays: list[Relay], value: int, at_ns: int) -> None:
        if value not in (ON, OFF, TOGGLE):
            raise Rejected(ILLEGAL_VALUE)
        for relay in relays:
            on = value == ON or (value == TOGGLE and not relay.closed(at_ns))
            relay.switch(at_ns, None if on else at_ns)

    def _write_coils(self, body: bytes, at_ns: int) -> bytes:
        first, levels = written_bits(body, CHANNELS)
        for relay, level in zip(self._relays[first:], levels, strict=False):
            relay.switch(at_ns, None if level else at_ns)
        return body[:4]

    def _write_register(self, body: bytes, _: int) -> bytes:
        address, value = address_and_value(body)
        self._judge(address, value)
        self._set(address, value)
        return body

    def _write_registers(self, body: bytes, _: int) -> bytes:
        first, values = written_words(body)
        # All or nothing: a request that fails halfway must not have changed anything.
        for offset, value in enumerate(values):
            self._judge(first + offset, value)
        for offset, value in enumerate(values):
            self._set(first + offset, value)
        return body[:4]

    def _judge(self, address: int, value: int) -> None:
        if address == ADDRESS:
            allowed = 1 <= value <= 255
        elif address == UART:
            allowed = value == self._registers[UART]
        else:
            raise Rejected(ILLEGAL_ADDRESS)
        if not allowed:
            raise Rejected(ILLEGAL_VALUE)

    def _set(self, address: int, value: int) -> None:
        if address == ADDRESS:
            self.address = value
        else:
            self._registers[address] = value


class IoBoard(RelayBoard):
    """Waveshare Modbus RTU IO 8CH: the relays, and eight inputs read by function 02.

    `inputs` by channel, counted from 1: the level (0 or 1) at an instant; an unconnected input reads 0.
    """

    def __init__(
        self,
        address: int,
        loads: Mapping[int, Load],
        inputs: Mapping[int, Callable[[int], int]],
        *,
        uart: int = 0x0001,
        version: int = 200,
    ) -> None:
        super().__init__(address, loads, uart=uart, version=version)
        levels = [inputs.get(channel, lambda _: 0) for channel in range(1, CHANNELS + 1)]
        self._functions[2] = lambda body, at_ns: read_bits(body, at_ns, levels)
        self._registers.update({MODE + channel: 0 for channel in range(CHANNELS)})

    def _judge(self, address: int, value: int) -> None:
        if MODE <= address < MODE + CHANNELS:
            if value > MODE_MAX:
                raise Rejected(ILLEGAL_VALUE)
        else:
            super()._judge(address, value)
