"""Commands that lost their properties, and a clock that commands contradict, at the request handler."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.cloud.command_message import incoming_of
from edge_agent.model import Alarm
from edge_agent.mqtt.packets import received_of
from edge_agent.runtime.clock import SystemClock
from edge_agent.runtime.incoming import IncomingCommand
from tests.support.site import PARCEL, Site, at_site
from tools.simulate.plant import EPOCH_S, rfc3339


def body(site: Site, number: int) -> bytes:
    now_s = asyncio.get_running_loop().time()
    fields = {
        "request_id": f"bridge-{number}",
        "reservation_id": f"res_{number}",
        "machine_id": "machine_123",
        "platform_order_id": "o",
        "packaging": PARCEL,
        "issued_at": rfc3339(now_s),
        "expires_at": rfc3339(now_s + 10),
    }
    return json.dumps(fields).encode()


def test_w17_a_command_without_any_property_changes_nothing(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        taken: list[bool] = []
        for number in range(3):
            payload = body(site, number)
            agent.commands.handle(
                IncomingCommand("reserve", payload, lambda: taken.append(True), without_properties=True)
            )
        await site.until(lambda: bool(site.published("ALARM_RAISED")))
        assert len(taken) == 3
        assert not agent.loop.state.reservations
        raised = site.published("ALARM_RAISED")[0]["alarm_raised_event"]
        assert raised["alarm"] == "COMMAND_REJECTED"
        assert "MQTT 3.1.1" in raised["reason"]

    at_site(tmp_path, test)


def test_w17_a_command_with_an_expiry_alone_is_carried_out_unanswered(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        agent.commands.handle(IncomingCommand("reserve", body(site, 1), lambda: None, message_expiry_s=10))
        await site.until(lambda: "res_1" in agent.loop.state.reservations)

    at_site(tmp_path, test)


@pytest.mark.parametrize(("empty", "expiry_s"), [(True, None), (False, 10)])
def test_w17_what_paho_hands_over_shows_whether_there_was_a_property(
    empty: bool, expiry_s: int | None
) -> None:
    properties: Any = SimpleNamespace()
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    message = SimpleNamespace(
        properties=properties, topic="a/cmd/reserve", payload=b"{}", mid=1, qos=1, retain=False, dup=False
    )
    assert incoming_of(received_of(message, 1), lambda: None, 0.0).without_properties is empty


class Wrong:
    """A plant's clock that is ahead, trusted, and judged as the system's is."""

    def __init__(self, judge: SystemClock, ahead_s: float) -> None:
        self._judge, self._ahead_s = judge, ahead_s

    @property
    def difference_s(self) -> float | None:
        return self._judge.difference_s

    @property
    def contradicted(self) -> bool:
        return self._judge.contradicted

    def compare(self, issued_s: float) -> None:
        true_s = self._judge.now().wall_s
        ahead_s = self.now().wall_s - issued_s
        self._judge.compare(true_s - ahead_s)

    def now(self) -> Any:
        at_s = asyncio.get_running_loop().time()
        true = self._judge.now()
        return dataclasses.replace(
            true, boot_id="boot-1", boottime_ns=round(at_s * 1e9), wall_s=EPOCH_S + at_s + self._ahead_s
        )


@pytest.mark.parametrize("ahead_s", [2.3e9, -8e8])
def test_w12_a_contradicted_clock_raises_an_alarm_and_commands_live_by_their_expiry(
    tmp_path: Path, ahead_s: float
) -> None:
    async def test(site: Site) -> None:
        agent = site.plant.agent
        assert agent is not None
        judge: Any = SystemClock(trusted=True, mark=tmp_path / "none")
        judge._libc = SimpleNamespace(adjtimex=lambda _: 5)
        clock: Any = Wrong(judge, ahead_s)
        agent.commands._clock = agent.loop._clock = clock
        for number in range(6):
            await site.plant.broker.call("reserve", json.loads(body(site, number)))
        assert "res_5" in agent.loop.state.reservations
        (standing,) = [a for a in agent.loop.state.alarms.values() if a.alarm is Alarm.CLOCK_UNSYNCED]
        assert f"{ahead_s:+.0f}"[:4] in standing.detail

    at_site(tmp_path, test)
