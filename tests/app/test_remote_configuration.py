"""Remote settings: tried out, kept or taken back, and never against a technician at the machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_agent.app import service as service_module
from edge_agent.cloud.interfaces import LinkListener
from edge_agent.config import Settings
from edge_agent.config.remote_settings import (
    RemoteSettings,
    RemoteState,
    read_remote,
    remote_file,
)
from edge_agent.errors import Code, LinkFault, Refusal
from edge_agent.journal.configurations import configurations
from edge_agent.mqtt.event_queue import EventQueue
from edge_agent.mqtt.messages import Message, OnAcknowledged
from edge_agent.protocol.settable import is_settable
from edge_agent.runtime.writer import ThreadWriter
from tests.support.served import Served, served

REACHED = "127.0.0.1"


class HostLink:
    """A link that is up with a broker at `REACHED` and at no other host."""

    def __init__(self, settings: Settings, published: list[Message]) -> None:
        self._host = settings.mqtt.host
        self._published = published
        self.up = False

    async def run(self, listener: LinkListener) -> None:
        """See `Link.run`."""
        if self._host == REACHED:
            self.up = True
            listener.link_is_up()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.up = False
        raise LinkFault("unreachable")

    def publish(self, message: Message, on_acknowledged: OnAcknowledged | None = None) -> None:
        """See `Link.publish`."""
        if self.up:
            self._published.append(message)
            if on_acknowledged is not None:
                asyncio.get_running_loop().call_soon(on_acknowledged, True)

    def send_events(self, events: EventQueue) -> None:
        """See `Link.send_events`."""

    def pause_events(self, paused: bool) -> None:
        """See `Link.pause_events`."""

    def taken_over(self) -> None:
        """See `Link.taken_over`."""


class At:
    """A service with such a link."""

    def __init__(self, site: Served, published: list[Message]) -> None:
        self.site = site
        self.published = published

    async def set(self, version: int, settings: dict[str, Any]) -> bool:
        wanted = RemoteSettings(version=version, settings=settings, request_id=f"r-{version}", by="Ada")
        return await self.site.service.apply_remote(wanted, "Ada (key ops)")

    async def refused(self, version: int, settings: dict[str, Any]) -> Refusal:
        with pytest.raises(Refusal) as caught:
            await self.set(version, settings)
        return caught.value

    @property
    def state(self) -> RemoteState:
        return self.site.service.remote_state()

    async def ended(self, version: int) -> str:
        await self.site.until(lambda: self.state.last is not None and self.state.last.version == version)
        assert self.state.last is not None
        return self.state.last.outcome

    @property
    def settings(self) -> Settings:
        return self.site.service.settings

    def reported(self) -> dict[str, Any]:
        """The last `state/config`."""
        found = [m for m in self.published if m.topic.endswith("/state/config")]
        assert all(m.retain for m in found)
        last: dict[str, Any] = json.loads(found[-1].payload)
        return last


def reachable(document: dict[str, Any]) -> None:
    document["mqtt"] = {"host": REACHED, "port": 1}


@asynccontextmanager
async def machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], Any] = reachable
) -> AsyncIterator[At]:
    monkeypatch.setattr(service_module, "TRIAL_S", 0.6)
    monkeypatch.setattr(service_module, "TRIAL_STEADY_S", 0.1)
    monkeypatch.setattr(service_module, "TRIAL_CHECK_S", 0.02)
    published: list[Message] = []

    def link(settings: Settings, online: Callable[[bool], str]) -> HostLink:
        return HostLink(settings, published)

    async with served(folder, ThreadWriter, change=change, link=link) as site:
        await site.until(lambda: site.agent.link.up)
        yield At(site, published)


async def test_good_settings_are_kept_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with machine(tmp_path, monkeypatch) as at:
        before = at.reported()
        assert (before["version"], before["trial"], before["drift"]) == (None, None, [])
        assert await at.set(1, {"doors.door_ajar_s": 33, "machine.name": "North"}) is False
        assert at.state.trial is not None
        assert await at.ended(1) == "APPLIED"
        assert (at.settings.doors.door_ajar_s, at.settings.machine.name) == (33, "North")
        await at.site.until(lambda: at.reported()["version"] == 1)
        reported = at.reported()
        assert reported["settings"] == {"doors.door_ajar_s": 33, "machine.name": "North"}
        assert reported["last"] | {"at": ""} == {
            "version": 1,
            "request_id": "r-1",
            "outcome": "APPLIED",
            "detail": "",
            "at": "",
        }
        assert reported["hash"] != before["hash"]
        origins = {row["key"]: row["from"] for row in at.site.service.effective()}
        assert (origins["machine.name"], origins["machine.location"]) == ("remote", "file")
        used = configurations(at.site.agent.store, 9)[-1]
        assert (used["how"], used["actor"]) == ("remote", "Ada (key ops)")
    async with machine(tmp_path, monkeypatch) as at:  # the file itself was not written
        assert at.settings.machine.name == "North"
        assert "North" not in (tmp_path / "machine.toml").read_text(encoding="utf-8")


async def test_settings_that_cut_the_link_off_are_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine(tmp_path, monkeypatch) as at:
        await at.set(1, {"machine.name": "North"})
        assert await at.ended(1) == "APPLIED"
        await at.set(2, {"machine.name": "South", "mqtt.host": "192.0.2.1"})
        await at.site.until(lambda: at.settings.mqtt.host == "192.0.2.1")
        assert await at.ended(2) == "REVERTED"
        await at.site.until(lambda: at.settings.mqtt.host == REACHED and at.site.agent.link.up)
        assert at.settings.machine.name == "North"
        await at.site.until(lambda: (at.reported()["last"] or {}).get("version") == 2)
        reported = at.reported()
        assert (reported["version"], reported["settings"]) == (1, {"machine.name": "North"})
        assert reported["last"]["detail"] == "the broker was not reached within 1 s"
        assert [row["how"] for row in configurations(at.site.agent.store, 9)][-2:] == ["remote", "revert"]


async def test_a_power_cut_during_the_trial_takes_the_settings_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine(tmp_path, monkeypatch) as at:
        monkeypatch.setattr(service_module, "TRIAL_S", 3600.0)
        await at.set(1, {"machine.name": "South", "mqtt.host": "192.0.2.1"})
        await at.site.until(lambda: at.settings.mqtt.host == "192.0.2.1")
    kept = read_remote(remote_file(tmp_path / "journal.sqlite"))
    assert kept.trial is not None
    async with machine(tmp_path, monkeypatch) as at:
        assert at.settings.mqtt.host == REACHED
        assert (at.state.applied, at.state.trial) == (None, None)
        assert await at.ended(1) == "REVERTED"
        assert at.reported()["last"]["detail"] == "the machine restarted while the settings were on trial"


FORBIDDEN = (
    "machine.machine_id",
    "machine.clock",
    "paths.journal",
    "access.group",
    "access.technicians_file",
    "mqtt.signing_keys.gateway",
    "mqtt.tls.ca_file",
    "service.keys.ops.public_key",
    "unlock.pulse_ms",
    "unlock.attempts",
    "doors.closed_level",
    "codes.code_digits",
    "credentials.courier.id",
    "buses.main.port",
    "devices.board.address",
    "cells.01.lock.channel",
    "cells.0.lock.channel",
    "sizes.only.max_mass_g",
    "screen.port",
    "metrics.place",
    "climate.x.y.setpoint_c",
    "climate",
    "",
    "MACHINE.name",
)


@pytest.mark.parametrize("key", FORBIDDEN)
async def test_what_decides_which_door_opens_cannot_be_set_remotely(key: str) -> None:
    assert not is_settable(key)


async def test_wrong_settings_are_refused_with_their_key_paths_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine(tmp_path, monkeypatch) as at:
        refusal = await at.refused(1, {"doors.closed_level": 0, "machine.name": "North"})
        assert refusal.code is Code.INVALID_ARGUMENT
        assert [one.field for one in refusal.violations] == ["doors.closed_level"]
        refusal = await at.refused(1, {"doors.door_ajar_s": 0})
        assert [one.field for one in refusal.violations] == ["doors.door_ajar_s"]
        refusal = await at.refused(1, {"screen.language": "de"})  # the machine has no screen
        assert "screen.port" in [one.field for one in refusal.violations]
        assert (at.state, at.settings.machine.name) == (RemoteState(), "Four cells")


async def test_an_older_version_and_a_second_one_during_a_trial_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine(tmp_path, monkeypatch) as at:
        await at.set(5, {"machine.name": "North"})
        assert (await at.refused(6, {"machine.name": "East"})).code is Code.NOT_ALLOWED
        with pytest.raises(Refusal, match="on trial"):
            await at.site.service.reload("SIGHUP")
        assert await at.ended(5) == "APPLIED"
        for version in (5, 4, 1):
            refusal = await at.refused(version, {"machine.name": "West"})
            assert [one.field for one in refusal.violations] == ["version"]
        assert await at.set(6, {"machine.name": "North"}) is True  # nothing changes
        assert await at.ended(6) == "APPLIED"
        assert await at.set(7, {}) is False  # back to what the file says
        assert await at.ended(7) == "APPLIED"
        assert at.settings.machine.name == "Four cells"


async def test_a_change_at_the_kiosk_is_drift_and_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine(tmp_path, monkeypatch) as at:
        await at.set(1, {"machine.name": "North", "doors.door_ajar_s": 33})
        assert await at.ended(1) == "APPLIED"
        at.site.change(lambda document: document["machine"].update(name="By the technician"))
        assert [str(one) for one in await at.site.service.reload("technician")] == [
            "machine.name: 'North' is now 'By the technician'"
        ]
        await at.site.until(lambda: at.settings.machine.name == "By the technician")
        assert at.settings.doors.door_ajar_s == 33
        await at.site.until(lambda: bool(at.reported()["drift"]))
        assert at.reported()["drift"] == [
            {"key": "machine.name", "local": "By the technician", "desired": "North"}
        ]
        await at.set(2, {"machine.name": "South"})  # set again by somebody who saw the drift
        assert await at.ended(2) == "APPLIED"
        assert at.settings.machine.name == "South"
        assert at.settings.doors.door_ajar_s == 120
        await at.site.until(lambda: at.reported()["drift"] == [] and at.reported()["version"] == 2)


async def test_a_file_that_the_settings_no_longer_fit_is_used_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_screen(document: dict[str, Any]) -> None:
        reachable(document)
        document["screen"] = {"port": 29_999}

    async with machine(tmp_path, monkeypatch, with_screen) as at:
        await at.set(1, {"screen.help": "Call 112", "machine.name": "North"})
        assert await at.ended(1) == "APPLIED"
    async with machine(tmp_path, monkeypatch) as at:  # a technician has taken the section out
        assert at.settings.machine.name == "Four cells"
        assert at.settings.screen is None


async def test_a_damaged_file_of_settings_stops_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote_file(tmp_path / "journal.sqlite").write_bytes(b"{")
    async with machine(tmp_path, monkeypatch) as at:
        assert at.state == RemoteState()
        assert await at.set(1, {"machine.name": "North"}) is False
        assert await at.ended(1) == "APPLIED"


async def test_the_reservations_stay_through_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with machine(tmp_path, monkeypatch) as at:
        at.site.reserve()
        await at.site.until(lambda: "res_1" in at.site.agent.loop.state.reservations)
        held = at.site.agent.loop.state.reservations["res_1"]
        await at.set(1, {"machine.name": "North"})
        assert await at.ended(1) == "APPLIED"
        assert at.site.agent.loop.state.reservations["res_1"] == held
