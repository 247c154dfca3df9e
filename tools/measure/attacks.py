"""What attackers cost others: a code at the kiosk and another platform's requests, without and under
attack."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tools.measure.figures import Figure, p50_p99
from tools.measure.lives import PARCEL, person_at
from tools.measure.rig import API, MeasureFault, Rig, Run, rig_of

THIEF = "machine_thief"
BEGUN_S = 2.0
"""How long an attack runs before the measurement."""
SETTLES_S = 0.7
"""A door that was closed has settled after this time."""
ROUNDS = 2
"""Quiet and every attack are measured in turns, so that a slow minute of this machine affects them all."""


def attacks(run: Run) -> list[Figure]:
    """A code at the kiosk until its door is open, and REST requests of an honest platform: quiet, and under
    the attacks X2, X5 and X6, in turns."""
    lives, calls = run.pick(8, 2), run.pick(150, 10)
    codes: dict[str, list[float]] = {}
    answers: dict[str, list[float]] = {}
    with rig_of(run) as rig, person_at(rig, gateway=True):
        customer = Customer(rig)
        for _ in range(ROUNDS):
            for kind in ("quiet", "half-sent", "drawing", "growing"):
                with attacked(rig, kind):
                    codes.setdefault(kind, []).extend(s for _ in range(lives) for s in customer.live())
                    answers.setdefault(kind, []).extend(customer.call() for _ in range(calls))
    names = {"half-sent": "X2 half-sent", "drawing": "X5 drawing", "growing": "X6 growth"}
    figures = p50_p99("code -> open door", codes["quiet"], note="request at the local API to its answer")
    for kind, name in names.items():
        figures += p50_p99(
            f"code -> open door, {name}",
            codes[kind],
            codes["quiet"],
            peer_is="the same in quiet, in the same run",
            targets=("", "<= 1000"),
        )
    figures += p50_p99("REST call", answers["quiet"], note="GET of a reservation, on a kept connection")
    for kind, name in names.items():
        figures += p50_p99(
            f"REST call, {name}",
            answers[kind],
            answers["quiet"],
            peer_is="the same in quiet, in the same run",
            targets=("ratio <= 2", "ratio <= 2"),
        )
    return figures


@contextmanager
def attacked(rig: Rig, kind: str) -> Iterator[None]:
    """The attack runs for the length of a `with`; `quiet` is none."""
    if kind == "quiet":
        yield
        return
    places = (
        [str(rig.mqtt_port), THIEF]
        if kind == "growing"
        else [str(rig.files.api_port), str(rig.files.agent_socket)]
    )
    rig.spawn("attacker", [sys.executable, "-m", "tools.measure.attackers", kind, *places])
    try:
        time.sleep(BEGUN_S)
        yield
    finally:
        rig.stop("attacker")
        time.sleep(BEGUN_S)


class Customer:
    """Reserves by REST, and opens by code at the kiosk."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._last = ""

    def live(self) -> list[float]:
        """One reservation; returns how long each of its two codes took from the request to the open door, in
        seconds."""
        body = {
            "machine_id": self._rig.machine_id,
            "platform_order_id": "attacked",
            "packaging": PARCEL,
            "grace_period_pickup_in_seconds": 0,
        }
        made = self._rig.api.call("POST", f"{API}/reservations", body)
        self._last = str(made["reservation_id"])
        times = []
        for code, act, after in (
            ("drop_off_code", "place", "DROPPED_OFF"),
            ("pickup_code", "take", "PICKED_UP"),
        ):
            took_s, label = self._enter(str(made[code]))
            times.append(took_s)
            cell = f"/cells/{label}"
            self._rig.sim.call(
                "POST", f"{cell}/{act}", {"grams": PARCEL["weight"]} if act == "place" else None
            )
            self._rig.sim.call("POST", f"{cell}/close")
            self._rig.wait(lambda after=after: self._status() == after, "gateway", 0.1)  # type: ignore[misc]
            time.sleep(SETTLES_S)
        return times

    def _status(self) -> str:
        found = self._rig.api.call("GET", f"{API}/reservations/{self._last}")
        return str(found["status"]).removeprefix("RESERVATION_STATUS_")

    def call(self) -> float:
        """Sends one REST request; returns how long it took, in seconds."""
        began_s = time.monotonic()
        self._rig.api.call("GET", f"{API}/reservations/{self._last}")
        return time.monotonic() - began_s

    def _enter(self, code: str) -> tuple[float, str]:
        connection = http.client.HTTPConnection("agent", timeout=20)
        began_s = time.monotonic()
        with contextlib.closing(connection):
            try:
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.connect(str(self._rig.files.agent_socket))
                connection.request(
                    "POST", "/v1/code", json.dumps({"text": code}), {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise MeasureFault(f"a code at the kiosk: {error}") from error
        if answer.status != 200:
            raise MeasureFault(f"a code at the kiosk: {answer.status} {text.decode(errors='replace')}")
        return time.monotonic() - began_s, str(json.loads(text)["cell"]["description"])
