"""Measuring devices: weight transmitters and thermometers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from edge_agent.drivers.simulated.slave import (
    DEVICE_FAILURE,
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
"""How far from the calibrated zero the device can be zeroed: an assumption, it is a menu setting."""
GROSS_NEGATIVE, NET_NEGATIVE, STABLE = 1 << 7, 1 << 8, 1 << 11

PROBES = 8
NO_SENSOR = 0x8000
AUTO_REPORT = 0x00FD


class _Transmitter(Slave, ABC):
    """A weight transmitter whose registers are read by function 03 and written by function 16. Tare and zero
    are lost with the object, as at power-off."""

    def __init__(self, address: int, weigh: Callable[[int], Weighing] | None) -> None:
        super().__init__(address)
        self._weigh = weigh or (lambda _: Weighing(0, settled=True))
        self._zero_g = 0
        self._tare_g = 0
        self._functions: dict[int, Execute] = {3: self._read, 16: self._write}

    def functions(self) -> Mapping[int, Execute]:
        """Functions 03 and 16."""
        return self._functions

    def _masses_g(self, weighing: Weighing) -> tuple[int, int]:
        """Gross and net mass."""
        gross_g = weighing.grams - self._zero_g
        return gross_g, gross_g - self._tare_g

    @abstractmethod
    def _read(self, body: bytes, at_ns: int) -> bytes: ...

    @abstractmethod
    def _write(self, body: bytes, at_ns: int) -> bytes: ...


class LaumasTransmitter(_Transmitter):
    """Laumas TLB/W100: status 6, gross 7-8, net 9-10 (high word first, magnitude only), command register 5.

    Source: Laumas TLB manual, Modbus RTU protocol.
    """

    def _read(self, body: bytes, at_ns: int) -> bytes:
        weighing = self._weigh(at_ns)
        gross_g, net_g = self._masses_g(weighing)
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


class GenericTransmitter(_Transmitter):
    """The transmitter sold under many names: status 8 (bit 5: not stable), gross 80-81 and net 82-83 (signed,
    high word first); 0x7FFFFFFF to 84-85 tares, anything to 94 zeroes. No decimals here: grams.

    Tare and zero are lost with the object, as at power-off.
    """

    STATUS, GROSS, NET, TARE, ZERO = 8, 80, 82, 84, 94
    UNSTABLE = 1 << 5
    TAKE_TARE = (0x7FFF, 0xFFFF)

    def _read(self, body: bytes, at_ns: int) -> bytes:
        weighing = self._weigh(at_ns)
        gross_g, net_g = self._masses_g(weighing)
        values = {
            self.STATUS: 0 if weighing.settled else self.UNSTABLE,
            self.GROSS: gross_g >> 16,
            self.GROSS + 1: gross_g,
            self.NET: net_g >> 16,
            self.NET + 1: net_g,
        }
        return read_words(body, values.get)

    def _write(self, body: bytes, at_ns: int) -> bytes:
        first, values = written_words(body)
        grams = self._weigh(at_ns).grams
        if first == self.TARE and tuple(values) == self.TAKE_TARE:
            self._tare_g = grams - self._zero_g
        elif first == self.ZERO and len(values) == 1:
            self._zero_g = grams
        else:
            raise Rejected(ILLEGAL_VALUE if first in (self.TARE, self.ZERO) else ILLEGAL_ADDRESS)
        return body[:4]


class RegisterThermometer(Slave):
    """One sensor in tenths of a degree, signed, at `register`, read by `function`: XY-MD02, Dixell, Pixsys.

    `constants`: the values of other registers. Assumption: with a broken sensor the device answers with an
    exception (4).
    """

    def __init__(
        self,
        address: int,
        probe: Callable[[int], float | None] | None,
        *,
        function: int,
        register: int,
        constants: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(address)
        self._probe = probe
        self._register = register
        self._constants = dict(constants or {})
        self._functions: dict[int, Execute] = {function: self._read}

    def functions(self) -> Mapping[int, Execute]:
        """The one function for reading."""
        return self._functions

    def _read(self, body: bytes, at_ns: int) -> bytes:
        def register(address: int) -> int | None:
            if address != self._register:
                return self._constants.get(address)
            temperature_c = None if self._probe is None else self._probe(at_ns)
            if temperature_c is None:
                raise Rejected(DEVICE_FAILURE)
            return round(temperature_c * 10)

        return read_words(body, register)


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
