"""A bad line and a busy board delay an answer; they do not fail it (BEHAVIOUR.md, Opening a door)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edge_agent.drivers.simulated.slave import with_crc
from edge_agent.model import Alarm
from tests.support.site import Site, at_site
from tools.measure.figures import quantile
from tools.measure.noise import live_in_noise

BOARD = 1
"""The address of the lock board of A01 and A02."""


@pytest.mark.parametrize(("noise", "longest_s"), [(0.05, 1.5), (0.15, 6.0)])
def test_w15_noise_delays_no_command_and_fails_none(tmp_path: Path, noise: float, longest_s: float) -> None:
    found = live_in_noise(noise, 40, 3, tmp_path)
    assert found.damaged_share > 0.8 * noise
    assert not found.failed
    assert not found.unfinished
    assert not found.lost_cells
    assert not any("DEVICE_SILENT" in alarm for alarm in found.alarms)
    assert quantile(found.drop_offs_s + found.pick_ups_s, 0.97) <= longest_s


class Busy:
    """Makes a board answer exception 05 or 06, or nothing, to what it is asked."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch, *, exception: int | None) -> None:
        self.until_s = 0.0
        self.refused = 0
        (slave,) = [s for s in site.plant.slaves["main"] if s.address == BOARD]
        answer = slave.answer

        def busy(frame: bytes, at_ns: int) -> bytes | None:
            if frame[1] == 5 or at_ns / 1e9 >= self.until_s:
                return answer(frame, at_ns)
            self.refused += 1
            if exception is None:
                return None
            return with_crc(bytes([BOARD, frame[1] | 0x80, exception]))

        monkeypatch.setattr(slave, "answer", busy)


@pytest.mark.parametrize("exception", [5, 6, None])
def test_w16_a_board_that_is_busy_after_a_pulse_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exception: int | None
) -> None:
    async def test(site: Site) -> None:
        for number in (1, 2):
            await site.reserve(number)
        busy = Busy(site, monkeypatch, exception=exception)
        first = asyncio.create_task(site.call("dropoff", "res_1"))
        await site.until(lambda: site.pulses() == 1)
        busy.until_s = asyncio.get_running_loop().time() + 1.0
        await asyncio.sleep(0.35)
        second = asyncio.create_task(site.call("dropoff", "res_2"))
        answers = [await first, await second]
        assert all("result" in answer for answer in answers), answers
        assert busy.refused > 3
        assert site.pulses() == 2
        assert not site.published("ALARM_RAISED")

    at_site(tmp_path, test)


def test_w16_a_board_that_is_busy_for_good_counts_as_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(site: Site) -> None:
        busy = Busy(site, monkeypatch, exception=6)
        agent = site.plant.agent
        assert agent is not None

        def silent() -> bool:
            return any(a.alarm is Alarm.DEVICE_SILENT for a in agent.loop.state.alarms.values())

        busy.until_s = asyncio.get_running_loop().time() + 60
        await asyncio.sleep(20)
        assert not silent()
        await site.until(silent, 30)
        await site.until(lambda: not silent(), 60)

    at_site(tmp_path, test)


def test_w16_an_attempt_on_a_board_that_goes_silent_ends_and_frees_its_place(tmp_path: Path) -> None:
    """Two attempts watch a silent board until they expire; attempts on other boards get their turn then."""

    async def test(site: Site) -> None:
        labels: dict[int, Any] = {}
        for number in (1, 2):
            labels[number] = (await site.reserve(number))["cell"]["description"]
        asked = [asyncio.create_task(site.call("dropoff", f"res_{n}", timeout_s=6)) for n in (1, 2)]
        await site.until(lambda: site.pulses() == 2)
        end = site.plant.cables["main"].trouble.silences[BOARD].begin(None)
        for label in labels.values():
            site.plant.world.close(label)
        errors = [(await ask)["error"] for ask in asked]
        assert [error["code"] for error in errors] == [13, 13]
        agent = site.plant.agent
        assert agent is not None
        assert not agent.loop.state.active_unlocks()
        assert site.pulses() == 2, "never sent twice"
        end()

    at_site(tmp_path, test)
