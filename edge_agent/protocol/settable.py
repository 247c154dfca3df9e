"""Which keys of a machine's configuration an operator may set remotely, and of what kind their values are.

The list is closed (docs/decisions/0050-remote-settings.md): only the technician at the machine sets wiring,
access and unlocking. The machine judges every value.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

Kind = Literal["text", "integer", "number", "choice"]


@dataclass(frozen=True, slots=True)
class SettableKey:
    """A key path, with the kind of its value; `*` stands for one name. `choices`: the values of a choice."""

    key: str
    kind: Kind
    choices: tuple[str, ...] = ()


SETTABLE = (
    SettableKey("machine.name", "text"),
    SettableKey("machine.location", "text"),
    SettableKey("machine.latitude", "number"),
    SettableKey("machine.longitude", "number"),
    SettableKey("mqtt.host", "text"),
    SettableKey("mqtt.port", "integer"),
    SettableKey("mqtt.keepalive_s", "integer"),
    SettableKey("mqtt.session_expiry_s", "integer"),
    SettableKey("mqtt.reconnect_max_s", "number"),
    SettableKey("doors.door_ajar_s", "integer"),
    SettableKey("weight.empty_dropoff", "choice", ("alarm", "hold")),
    SettableKey("weight.empty_below_g", "integer"),
    SettableKey("weight.weight_change_g", "integer"),
    SettableKey("weight.drift_max_g", "integer"),
    SettableKey("climate.*.setpoint_c", "number"),
    SettableKey("climate.*.band_c", "number"),
    SettableKey("climate.*.min_on_s", "integer"),
    SettableKey("climate.*.min_off_s", "integer"),
    SettableKey("climate.*.limit_c", "number"),
    SettableKey("climate.*.allowed_min", "integer"),
    SettableKey("climate.*.precondition_min", "integer"),
    SettableKey("climate.*.no_effect_min", "integer"),
    SettableKey("climate.*.least_change_c", "number"),
    SettableKey("signal.on_max_s", "integer"),
    SettableKey("screen.language", "choice", ("en", "de", "id", "ar")),
    SettableKey("screen.back_s", "integer"),
    SettableKey("screen.help", "text"),
    SettableKey("screen.speech", "choice", ("off", "button", "always")),
    SettableKey("retention.reservations_days", "number"),
)


def is_settable(key: str) -> bool:
    """Whether a key path may be set remotely."""
    parts = key.split(".")
    for one in SETTABLE:
        wanted = one.key.split(".")
        if len(wanted) == len(parts) and all(map(fnmatchcase, parts, wanted)):
            return True
    return False
