"""A bus opens on its own adapter only; another one at the same name keeps it closed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_agent.app.startup import Confirmed
from edge_agent.errors import ConfigError
from edge_agent.journal.binding import read_bound
from edge_agent.model import Alarm
from tests.app.test_reload import demo, loaded
from tests.support.site import Site, at_site
from tools.simulate.plant import with_journal
from tools.simulate.usb import UsbTree

BUS_DOWN = f"{Alarm.BUS_DOWN}/main"


def detail(site: Site) -> str | None:
    assert site.plant.agent is not None
    found = site.plant.agent.loop.state.alarms.get(BUS_DOWN)
    return None if found is None else found.detail


async def pulses_by_hand(site: Site) -> int:
    assert site.plant.agent is not None
    before = site.pulses()
    await site.plant.agent.local.open_cell("A01", "a look")
    pulses = site.pulses() - before
    site.plant.world.close("A01")
    await asyncio.sleep(2)
    return pulses


@pytest.mark.behaviour("port-02", "port-03", "port-04")
def test_w7_another_adapter_at_the_same_name_keeps_the_bus_closed(tmp_path: Path) -> None:
    """Bound without a serial number; the adapters change places between two starts, and while it runs."""
    tree = UsbTree(tmp_path / "sys")
    tty = Path(demo()["buses"]["main"]["port"]).name

    async def run(site: Site) -> None:
        await site.plant.stop()
        site.plant.settings = with_journal(site.plant.settings, tmp_path / "new" / "journal.sqlite")
        site.plant.replaced = {"sysfs": tree.sysfs}
        tree.plug(tty, "1.1", serial=None)
        site.plant.start()
        await asyncio.sleep(3)
        assert site.plant.agent is not None
        assert read_bound(site.plant.agent.store).ports == {"main": "usb-path 0000:00:14.0:1.1:00"}
        assert detail(site) is None
        assert await pulses_by_hand(site) == 1
        await site.plant.stop()
        tree.unplug(tty)
        tree.plug(tty, "1.2", serial=None)
        for _ in range(2):
            site.plant.start()
            await asyncio.sleep(5)
            named = detail(site) or ""
            assert "expected usb-path 0000:00:14.0:1.1:00" in named
            assert "found usb-path 0000:00:14.0:1.2:00" in named
            assert await pulses_by_hand(site) == 0
            await site.plant.stop()
        site.plant.start()
        await asyncio.sleep(5)
        tree.unplug(tty)
        tree.plug(tty, "1.1", serial=None)
        await site.until(lambda: detail(site) is None)
        assert await pulses_by_hand(site) == 1
        await site.plant.stop()
        tree.unplug(tty)
        tree.plug(tty, "1.2", serial=None)
        site.plant.replaced |= {"confirmed": Confirmed(rewired=True)}
        site.plant.start()
        await asyncio.sleep(5)
        assert detail(site) is None
        assert await pulses_by_hand(site) == 1
        await site.plant.stop()
        site.plant.replaced.pop("confirmed")
        site.plant.start()  # accepted once, it is the bus's own
        await asyncio.sleep(5)
        assert detail(site) is None

    at_site(tmp_path, run)


@pytest.mark.behaviour("port-02")
def test_w7_adapters_that_change_places_while_the_machine_runs(tmp_path: Path) -> None:
    tree = UsbTree(tmp_path / "sys")
    tty = Path(demo()["buses"]["main"]["port"]).name

    async def run(site: Site) -> None:
        await site.plant.stop()
        site.plant.settings = with_journal(site.plant.settings, tmp_path / "new" / "journal.sqlite")
        site.plant.replaced = {"sysfs": tree.sysfs}
        tree.plug(tty, "1.1", serial="A1")
        site.plant.start()
        await asyncio.sleep(3)
        (cable,) = site.plant.cables.values()
        cable.unplug()
        await site.until(lambda: detail(site) == "its port is not there")
        tree.unplug(tty)
        tree.plug(tty, "1.1", serial="B2")  # another one in the same socket
        cable.plug()
        await site.until(lambda: "found usb-serial 1a86:7523 B2 00" in (detail(site) or ""))
        assert await pulses_by_hand(site) == 0
        assert len(site.published("ALARM_RAISED")) >= 1

    at_site(tmp_path, run)


@pytest.mark.behaviour("port-06")
def test_two_buses_on_one_device_are_refused(tmp_path: Path) -> None:
    document = demo()
    (tmp_path / "ttyUSB0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyUSB0")
    document["buses"]["main"]["port"] = str(tmp_path / "ttyUSB0")
    document["buses"]["other"] = document["buses"]["main"] | {"port": str(tmp_path / "by-id")}
    with pytest.raises(
        ConfigError, match=r"buses\.other\.port: port .*by-id.* is taken by buses\.main\.port"
    ):
        loaded(tmp_path, document)
