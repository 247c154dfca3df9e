"""One suite of scenarios, on every kind of wire."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.config import Settings, load_settings
from tests.scenarios.plays import PLAYS
from tests.scenarios.stage import BenchStage, play_virtually
from tests.support.bench import running_bench
from tests.support.machines import LOCK_BOARDS, machine_of, smallest
from tools.bench.settings import REPOSITORY
from tools.simulate.weather import Weather

CONFIG = REPOSITORY / "config"
CABLES: dict[str, tuple[Weather | None, int | None]] = {
    "whole": (None, None),
    "single bytes": (None, 1),
    "pieces": (None, 3),
    "lossy": (Weather(noise=0.05), None),
    "delayed": (Weather(delay_ms=30), 2),
    "echoing": (Weather(echo=True), 3),
    "echoing and lossy": (Weather(echo=True, noise=0.03), None),
}
BAUDS = (9600, 19200, 115200)


def settings_of(name: str, **bus: object) -> Settings:
    """A configuration with something changed about each of its buses."""
    settings = load_settings(CONFIG / f"{name}.toml")
    for place, section in settings.buses.items():
        settings.buses[place] = section.model_copy(update=bus)
    return settings


@pytest.mark.parametrize("play", PLAYS)
@pytest.mark.parametrize("cable", CABLES)
def test_over_every_cable(tmp_path: Path, cable: str, play: str) -> None:
    weather, split = CABLES[cable]
    settings = settings_of("demo", local_echo=weather is not None and weather.echo)
    play_virtually(settings, tmp_path, PLAYS[play], weather=weather, split=split)


@pytest.mark.parametrize("play", PLAYS)
@pytest.mark.parametrize("baud", BAUDS)
def test_at_every_speed(tmp_path: Path, baud: int, play: str) -> None:
    play_virtually(settings_of("demo", baud=baud), tmp_path, PLAYS[play])


@pytest.mark.parametrize("play", PLAYS)
@pytest.mark.parametrize("protocol", LOCK_BOARDS)
def test_with_every_lock_protocol(tmp_path: Path, protocol: str, play: str) -> None:
    play_virtually(machine_of(tmp_path, protocol), tmp_path, PLAYS[play])


@pytest.mark.parametrize("cable", [name for name in CABLES if name != "whole"])
@pytest.mark.parametrize("protocol", LOCK_BOARDS)
def test_lock_protocols_over_bad_cables(tmp_path: Path, protocol: str, cable: str) -> None:
    weather, split = CABLES[cable]
    settings = machine_of(tmp_path, protocol)
    echo = weather is not None and weather.echo
    settings.buses["main"] = settings.buses["main"].model_copy(update={"local_echo": echo})
    play_virtually(settings, tmp_path, PLAYS["a life by the API"], weather=weather, split=split)


LONG = pytest.mark.long
"""A bench takes about a minute: `make test` plays the pseudo-terminal at the highest speed, without the plays
that wait for timeouts."""
SLOW_PLAYS = ("a silent board", "a lost port")


@pytest.fixture(
    scope="module",
    params=[pytest.param(baud, marks=() if baud == 115200 else LONG, id=f"pty {baud}") for baud in BAUDS],
)
def bench_stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BenchStage]:
    with running_bench(tmp_path_factory.mktemp("wire"), BENCH_BAUD=str(request.param)) as bench:
        yield BenchStage(bench, load_settings(CONFIG / "demo.toml"))


@pytest.mark.parametrize(
    "play", [pytest.param(play, marks=LONG if play in SLOW_PLAYS else ()) for play in PLAYS]
)
def test_on_the_pseudo_terminal(bench_stage: BenchStage, play: str) -> None:
    bench_stage.begin()
    asyncio.run(PLAYS[play](bench_stage))


NETWORKS = {
    "Modbus TCP": ("tcp://192.0.2.7:502", "moxa-e1214", 1),
    "RTU over TCP": ("rtu+tcp://192.0.2.8:4001", "lc-modbus-8r", 255),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network_stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BenchStage]:
    port, profile, address = NETWORKS[request.param]
    file = smallest(tmp_path_factory.mktemp("machine"), port, "modbus", profile, address)
    with running_bench(tmp_path_factory.mktemp("network"), BENCH_CONFIG=str(file)) as bench:
        yield BenchStage(bench, load_settings(file))


@LONG
@pytest.mark.parametrize("play", PLAYS)
def test_over_a_network(network_stage: BenchStage, play: str) -> None:
    network_stage.begin()
    asyncio.run(PLAYS[play](network_stage))
