"""The watchdog: each loop of the agent is hung in turn, and the service is not fed; else it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.app.agent import Agent
from edge_agent.cloud import telemetry
from edge_agent.config import load_settings
from edge_agent.runtime.loop_watch import LoopWatch, MonitoredLoop
from edge_agent.supervisor import Supervisor
from tests.support.site import Site
from tests.support.supervisor import Entries, FakeSupervisor, logged, silent
from tools.bench.settings import REPOSITORY
from tools.simulate.plant import Plant, with_journal
from tools.simulate.virtual_loop import VirtualLoop

WATCHDOG_S = 30.0


class Hang:
    """A call that does not come back before the test is over."""

    def __init__(self) -> None:
        self._over = asyncio.Event()

    async def __call__(self, *_: Any) -> None:
        await self._over.wait()

    def end(self) -> None:
        """All who hang go on."""
        self._over.set()


class Deaf(asyncio.Event):
    """Whatever waits for it was forgotten."""

    def set(self) -> None:
        return


class Watched:
    """A site whose agent has a supervisor, in virtual time."""

    def __init__(self, plant: Plant, supervisor: FakeSupervisor, entries: Entries) -> None:
        self.site = Site(plant)
        self.supervisor = supervisor
        self.entries = entries

    @property
    def agent(self) -> Agent:
        assert self.site.plant.agent is not None
        return self.site.plant.agent

    async def ready(self) -> None:
        await self.until(lambda: "READY=1" in self.supervisor.received)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for two minutes at most, and receives what is sent meanwhile."""
        async with asyncio.timeout(120):
            while not condition():
                self.supervisor.receive()
                await asyncio.sleep(1)

    async def passes(self, seconds: float) -> int:
        """Lets time pass; how often the service was fed in it."""
        self.supervisor.receive()
        fed = 0
        end_s = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end_s:
            await asyncio.sleep(1)
            fed += self.supervisor.receive().count("WATCHDOG=1")
        return fed


def watched(tmp_path: Path, test: Callable[[Watched], Awaitable[None]]) -> None:
    """Runs a test at the demo locker, its agent ready."""

    async def run() -> None:
        settings = load_settings(REPOSITORY / "config" / "demo.toml")
        settings.buses["main"] = settings.buses["main"].model_copy(update={"baud": 1200})  # less to compute
        plant = Plant(with_journal(settings, tmp_path / "journal.sqlite"), 7)
        plant.supervisor = service
        with logged() as entries:
            at = Watched(plant, supervisor, entries)
            plant.start()
            await at.ready()
            await test(at)
            await plant.stop()

    supervisor = FakeSupervisor(tmp_path, WATCHDOG_S)
    service = supervisor.service()
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(run())
    finally:
        service.close()
        supervisor.close()


def hang_bus(agent: Any, hang: Hang) -> None:
    agent.devices.buses["main"]._carry_out = hang


def hang_poller(agent: Any, hang: Hang) -> None:
    agent.pollers[0]._read_board = hang


def hang_loop(agent: Any, hang: Hang) -> None:
    agent.loop._turn = hang


def hang_commit(agent: Any, hang: Hang) -> None:
    agent._writer.commit = hang


def hang_climate(agent: Any, hang: Hang) -> None:
    agent.climate._tend = hang


def hang_events(agent: Agent, hang: Hang) -> None:
    agent.publisher._wake = Deaf()


def hang_state(agent: Agent, hang: Hang) -> None:
    agent.publisher._state_changed = Deaf()


@pytest.mark.parametrize(
    ("hangs", "name"),
    [
        (hang_bus, "bus main"),
        (hang_poller, "poller of main"),
        (hang_loop, "writer loop"),
        (hang_commit, "writer loop"),
        (hang_climate, "climate"),
        (hang_events, "publisher of events"),
        (hang_state, "publisher of state"),
    ],
)
def test_a_loop_that_hangs_is_named_and_starves_the_watchdog(
    tmp_path: Path, hangs: Callable[[Agent, Hang], None], name: str
) -> None:
    async def test(at: Watched) -> None:
        assert await at.passes(20) >= 3
        at.site.plant.world.open("A01")  # so that everybody has something to do
        hang = Hang()
        hangs(at.agent, hang)
        await at.until(lambda: name in silent(at.entries))
        assert await at.passes(2 * WATCHDOG_S) == 0
        assert any(line.startswith("STATUS=silent: ") and name in line for line in at.supervisor.received)
        hang.end()

    watched(tmp_path, test)


def test_telemetry_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(at: Watched) -> None:
        monkeypatch.setattr(telemetry, "MESSAGE_PAUSE_S", 1e6)
        await at.until(lambda: "telemetry" in silent(at.entries))
        assert await at.passes(2 * WATCHDOG_S) == 0

    watched(tmp_path, test)


def test_an_idle_locker_feeds_the_watchdog(tmp_path: Path) -> None:
    async def test(at: Watched) -> None:
        assert await at.passes(600) >= 115
        assert silent(at.entries) == []
        assert "STATUS=24 cells, 0 reservations, 0 alarms, broker connected" in at.supervisor.received

    watched(tmp_path, test)


def test_a_busy_locker_feeds_the_watchdog_and_reports_its_status(tmp_path: Path) -> None:
    async def test(at: Watched) -> None:
        made = await at.site.reserve()
        await at.site.call("dropoff", "res_1")
        assert await at.passes(200) >= 38
        assert silent(at.entries) == []
        status = "STATUS=24 cells, 1 reservations, 1 alarms, broker connected"  # the door stands open
        assert status in at.supervisor.received
        at.site.plant.world.close(made["cell"]["description"])

    watched(tmp_path, test)


def test_an_unplugged_bus_does_not_count_as_hung(tmp_path: Path) -> None:
    async def test(at: Watched) -> None:
        at.site.plant.cables["main"].unplug()
        assert await at.passes(300) >= 58
        assert silent(at.entries) == []
        assert any("bus main down" in line for line in at.supervisor.received)

    watched(tmp_path, test)


def test_a_bus_with_unreadable_replies_does_not_count_as_hung(tmp_path: Path) -> None:
    async def test(at: Watched) -> None:
        at.site.plant.cables["main"].trouble.noises.begin(1.0)
        assert await at.passes(300) >= 58
        assert silent(at.entries) == []

    watched(tmp_path, test)


def test_a_full_disk_does_not_count_as_a_hung_writer(tmp_path: Path) -> None:
    async def test(at: Watched) -> None:
        at.site.plant.lifeline.disk_full = True
        at.site.plant.world.open("A01")
        assert await at.passes(300) >= 58
        assert silent(at.entries) == []
        assert any("journal cannot be written" in line for line in at.supervisor.received)

    watched(tmp_path, test)


def test_a_loop_that_recovers_feeds_the_watchdog_again(tmp_path: Path) -> None:
    async def test(at: Watched) -> None:
        at.site.plant.lifeline.disk_stall_s = 100.0
        at.site.plant.world.open("A01")
        await at.until(lambda: "writer loop" in silent(at.entries))
        at.site.plant.lifeline.disk_stall_s = 0.0
        await at.passes(110)
        assert any(e["event"] == "a loop responds again" and e["loop"] == "writer loop" for e in at.entries)
        assert await at.passes(60) >= 11

    watched(tmp_path, test)


def test_a_process_that_was_suspended_does_not_count_as_hung() -> None:
    """Looks are counted: whatever passed between two of them, each loop has its chance."""
    turns = {"a": 1}
    loop_watch = LoopWatch([MonitoredLoop("a", lambda: turns["a"], 15.0)], check_s=5.0)
    assert [loop_watch.check() for _ in range(4)] == [[], [], ["a"], ["a"]]
    turns["a"] += 1
    assert loop_watch.check() == []


def test_a_part_with_nothing_to_prove_is_not_silent() -> None:
    loop_watch = LoopWatch([MonitoredLoop("thread", lambda: None, 10.0)], check_s=5.0)
    assert [loop_watch.check() for _ in range(5)] == [[]] * 5
    assert loop_watch.not_started == []


@pytest.mark.parametrize("address", ["", "@edge-agent-test"])
def test_systemd_is_notified_over_either_kind_of_socket(tmp_path: Path, address: str) -> None:
    fake = FakeSupervisor(tmp_path, 12.5, f"{address}-{tmp_path.name}" if address else "")
    service = fake.service()
    assert service.watchdog_s == 12.5
    service.ready("2 cells")
    service.feed()
    service.extend("upgrading")
    service.stopping()
    assert fake.receive() == [
        *("READY=1", "STATUS=2 cells", "WATCHDOG=1"),
        *("EXTEND_TIMEOUT_USEC=120000000", "STATUS=upgrading", "STOPPING=1", "STATUS=stopping"),
    ]
    service.close()
    fake.close()


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_meant_for_this_process_or_not(
    environment: dict[str, str], watchdog_s: float | None
) -> None:
    service = Supervisor.of({"NOTIFY_SOCKET": "/nobody", **environment}, 7)
    assert service is not None
    assert service.watchdog_s == watchdog_s
    service.close()


@pytest.mark.parametrize("address", [None, "", "relative/path"])
def test_without_a_supervisor_no_notification_is_sent(address: str | None) -> None:
    assert Supervisor.of({} if address is None else {"NOTIFY_SOCKET": address}, 1) is None


def test_a_supervisor_that_has_gone_is_logged_once(tmp_path: Path) -> None:
    service = Supervisor(str(tmp_path / "gone"), None)
    with logged() as entries:
        service.feed()
        service.feed()
    service.close()
    assert [e["log_level"] for e in entries] == ["error"]
