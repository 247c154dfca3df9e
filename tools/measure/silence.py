"""How two dead boards of six delay unlocks on the other four."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import tomli_w

from tools.measure.figures import Figure, p50_p99
from tools.measure.lives import Person, Timings, person_at
from tools.measure.rig import Rig, Run, rig_of

BOARDS, DEAD = 6, (5, 6)
BLOCKS = 4
"""Healthy and faulty blocks alternate, so that a noisy machine affects both."""


def locker(boards: int = BOARDS) -> dict[str, Any]:
    """A machine of eight plain cells a board, on one bus at 19200 baud."""
    places = [(board, channel) for board in range(1, boards + 1) for channel in range(1, 9)]
    return {
        "machine": {
            "machine_id": "machine_six",
            "name": "six boards",
            "location": "",
            "latitude": 0.0,
            "longitude": 0.0,
        },
        "mqtt": {"host": "127.0.0.1"},
        "doors": {"closed_level": 1},
        "unlock": {"pulse_ms": 300},
        "paths": {"profiles": str(Path(__file__).resolve().parents[2] / "config" / "devices")},
        "buses": {"main": {"port": "/dev/ttyUSB0", "baud": 19200}},
        "sizes": {"one": {"width_mm": 350, "height_mm": 250, "depth_mm": 450, "max_mass_g": 10_000}},
        "devices": {
            f"board_{n}": {"bus": "main", "address": n, "profile": "waveshare-io-8ch"}
            for n in range(1, boards + 1)
        },
        "cells": [
            {
                "label": f"{chr(64 + board)}{channel}",
                "cell_id": f"cell_{board}_{channel}",
                "size": "one",
                "lock": {"device": f"board_{board}", "channel": channel},
                "door": {"device": f"board_{board}", "channel": channel},
            }
            for board, channel in places
        ],
    }


def silence(run: Run) -> list[Figure]:
    """Unlocks on live boards while two of six are silent, against the same on a healthy bus: MQTT, 19200
    baud, 48 cells, no gateway; blocks of both in turn."""
    with tempfile.TemporaryDirectory(prefix="measure-") as folder:
        config = Path(folder) / "six.toml"
        config.write_text(tomli_w.dumps(locker()), encoding="utf-8")
        with rig_of(run, config=config) as rig, person_at(rig, gateway=False) as person:
            healthy, dead = Timings(), Timings()
            for block in range(BLOCKS):
                for timings, faulty in ((healthy, False), (dead, True))[:: 1 if block % 2 else -1]:
                    _block(rig, person, timings, run.pick(25, 2), faulty=faulty)
    peer = f"the same with all {BOARDS} boards answering, same run"
    note = f"{len(DEAD)} of {BOARDS} boards silent"
    return [
        *p50_p99(
            "unlock -> coil, silent boards",
            [o.coil_s - o.sent_s for o in dead.openings],
            [o.coil_s - o.sent_s for o in healthy.openings],
            peer_is=peer,
            note=f"{note}; MQTT command to energised solenoid",
        ),
        *p50_p99(
            "unlock -> reply, silent boards",
            [o.answered_s - o.sent_s for o in dead.openings],
            [o.answered_s - o.sent_s for o in healthy.openings],
            peer_is=peer,
            targets=("", "<= 1.5 x"),
            note=f"{note}; MQTT command to the reply that the door is open",
        ),
    ]


def _block(rig: Rig, person: Person, timings: Timings, lives: int, *, faulty: bool) -> None:
    faults = []
    if faulty:
        for address in DEAD:
            body = {"kind": "device_silent", "target": address}
            faults.append(rig.sim.call("POST", "/faults", body)["id"])
    rig.wait(lambda: rig.silent_devices() == (len(DEAD) if faulty else 0), "agent")
    person.timings = timings
    for _ in range(lives):
        person.live()
    for fault_id in faults:
        rig.sim.call("DELETE", f"/faults/{fault_id}")
    rig.wait(lambda: rig.silent_devices() == 0, "agent")
