"""The device profiles as a table for people."""

from __future__ import annotations

from pathlib import Path

from edge_agent.drivers.profiles import Profile, load_profile

REPOSITORY = Path(__file__).resolve().parents[3]
PROFILES = REPOSITORY / "config" / "devices"
PAGE = REPOSITORY / "docs" / "devices.md"

HEAD = """# Devices

Written by `make docs` from `config/devices/*.toml`. A board that is not here needs a file there, with frames
to prove it (`tests/drivers/test_profiles.py` runs every frame against the codec).

*Evidence* says where the registers are known from: official (the maker's own paper), community (several
integrators' code), single-source.

The *grade* says how far the profile was tried. `edge-agent bus scan` shows it for each configured device.

| grade | criteria |
|---|---|
| bronze | written from documents or other people's code; its vectors are published or computed frames |
| silver | frames of a real board of this model are among its vectors (`identity.recorded`: who, where) |
| gold | tried by us on a board: each capability, `bus check`, a day of polling (`hw_verified = true`) |

`edge-agent bus record-profile DEVICE` leads a technician at a machine through what makes a profile silver: a
reading with all doors closed, a pulse of one lock and its door open, the scale empty and with a known weight,
a temperature beside a thermometer, a signal, the checks; of these, all that the machine uses the board for.
What does not agree with what the technician says is not recorded. Relays are not switched for it. The file
that it writes holds the vectors, and says what to set in the profile.

Before the first machine with a board below gold: watch each lock, relay and contact move as configured
(`edge-agent init`, then `edge-agent bus doors`, then one `edge-agent open` for each cell).
"""


def abilities(profile: Profile) -> list[str]:
    """What a board can do, in words."""
    found = []
    if profile.lock is not None:
        found.append(
            f"{profile.lock.channels} locks ({profile.lock.pulse.kind}: {profile.lock.pulse.ability})"
        )
    if profile.doors is not None:
        found.append(f"{profile.doors.channels} door contacts")
    if profile.relays is not None:
        relays, ends = profile.relays, "nothing ends them: not for climate"
        if relays.pulse is not None:
            ends = f"timed: {relays.pulse.ability}"
        elif relays.communication_timeout_ms is not None:
            ends = f"off after {relays.communication_timeout_ms} ms of silence"
        found.append(f"{relays.channels} relays ({ends})")
    if profile.signal is not None:
        ends = "the board ends them" if profile.signal.pulse is not None else "nothing ends them"
        found.append(f"{profile.signal.channels} signals ({ends})")
    if profile.scale is not None:
        found.append("scale")
    if profile.temperature is not None:
        found.append(f"{profile.temperature.channels} temperatures")
    return found


def render(folder: Path = PROFILES) -> str:
    """The page. Raises `ConfigError` for a profile that cannot be read."""
    lines = [
        HEAD,
        "| profile | grade | boards | protocol | can | checked by `bus check` | evidence |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("*.toml")):
        profile = load_profile(path)
        identity = profile.identity
        cells = [
            f"`{path.stem}`",
            identity.grade,
            f"{identity.vendor}: {', '.join(identity.models)}",
            profile.bus.protocol,
            "; ".join(abilities(profile)),
            "; ".join(check.name for check in profile.checks) or "-",
            f"{identity.evidence}: {identity.source}",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
