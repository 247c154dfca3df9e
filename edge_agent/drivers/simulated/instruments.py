"""Measuring devices: a weight transmitter and a board of temperature sensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_agent.drivers.simulated.slave import (
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    Execute,
    Rejected,
    Slave,
    read_words,
    written_words,
)
from edge_agent.drivers.simulated.world import Weighing

COMMAND = 5
TARE, ZERO, SAVE, PERMANENT_ZERO = 7, 8, 99, 100
ZERO_RANGE_G = 300
"""How far from the calibrated zero the device lets itself be zeroed: an assumption, it is a menu setting."""
GROSS_NEGATIVE, NET_NEGATIVE, STABLE = 1 << 7, 1 << 8, 1 << 11

PROBES = 8
NO_SENSOR = 0x8000
AUTO_REPORT = 0x00FD


class LaumasTransmitter(Slave):
    """Laumas TLB/W100: status 6, gross 7-8, net 9-10 (high word first, magnitude only), command register 5.

    Source: Laumas TLB manual, Modbus RTU protocol. Tare and zero are lost with the object, as at power-off.
    """

    def __init__(self, address: int, weigh: Callable[[int], Weighing] | None) -> None:
        super().__init__(address)
        self._weigh = weigh or (lambda _: Weighing(0, settled=True))
        self._zero_g = 0
        self._tare_g = 0
        self._functions: dict[int, Execute] = {3: self._read, 16: self._write}

    def functions(self) -> Mapping[int, Execute]:
        """Functions 03 and 16."""
        return self._functions

    def _read(self, body: bytes, at_ns: int) -> bytes:
        weighing = self._weigh(at_ns)
        gross_g = weighing.grams - self._zero_g
        net_g = gross_g - self._tare_g
        status = STABLE if weighing.settled else 0
        status |= GROSS_NEGATIVE if gross_g < 0 else 0
        status |= NET_NEGATIVE if net_g < 0 else 0
        gross, net = abs(gross_g), abs(net_g)
        values = [0, status, gross >> 16, gross & 0xFFFF, net >> 16, net & 0xFFFF]
        return read_words(body, lambda a: values[a - COMMAND] if 0 <= a - COMMAND < len(values) else None)

    def _write(self, body: bytes, at_ns: int) -> bytes:
        first, values = written_words(body)
        if first != COMMAND or len(values) != 1:
            raise Rejected(ILLEGAL_ADDRESS)
        grams = self._weigh(at_ns).grams
        if values[0] == TARE:
            self._tare_g = grams - self._zero_g
        elif values[0] in (ZERO, PERMANENT_ZERO):
            if abs(grams) > ZERO_RANGE_G:
                raise Rejected(ILLEGAL_VALUE)
            self._zero_g = grams
        elif values[0] != SAVE:
            raise Rejected(ILLEGAL_VALUE)
        return body[:4]


class ThermometerBoard(Slave):
    """eletechsup R4DCB08: eight DS18B20, registers 0-7 in tenths of a degree, signed; 0x8000: no sensor.

    Register 0xFD (spontaneous reports) reads 0, as it must stay, and cannot be written here. Source:
    eletechsup R4DCB08 Modbus command sheet. `probes` by channel, counted from 1: °C at an instant, or
    None while the sensor does not answer.
    """

    def __init__(self, address: int, probes: Mapping[int, Callable[[int], float | None]]) -> None:
        super().__init__(address)
        self._probes = dict(probes)
        self._functions: dict[int, Execute] = {3: self._read}

    def functions(self) -> Mapping[int, Execute]:
        """Function 03."""
        return self._functions

    def _read(self, body: bytes, at_ns: int) -> bytes:
        def register(address: int) -> int | None:
            if address == AUTO_REPORT:
                return 0
            if address >= PROBES:
                return None
            probe = self._probes.get(address + 1)
            temperature_c = None if probe is None else probe(at_ns)
            return NO_SENSOR if temperature_c is None else round(temperature_c * 10)

        return read_words(body, register)
