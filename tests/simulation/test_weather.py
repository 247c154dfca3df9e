"""Lives on wires as they are in the field: no wrong pulse, no door reported otherwise than it was.

`run_storm` holds every pulse against its journaled intent, every parcel against who put it in, and every door
that the core got against the door itself; a port that is back is opened again within two seconds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import Settings, load_settings
from tools.bench.settings import REPOSITORY
from tools.simulate.lives import run_storm
from tools.simulate.weather import Weather


def demo(*, local_echo: bool = False) -> Settings:
    settings = load_settings(REPOSITORY / "config" / "demo.toml")
    if local_echo:
        main = settings.buses["main"].model_copy(update={"local_echo": True})
        settings.buses["main"] = main
    return settings


@pytest.mark.long
def test_a_thousand_lives_under_five_per_cent_damaged_frames(tmp_path: Path) -> None:
    outcome = run_storm(
        demo(),
        tmp_path / "journal.sqlite",
        5,
        lives=1000,
        at_once=6,
        kill_every_s=None,
        weather=Weather(noise=0.05),
    )
    assert outcome.lives == 1000
    assert outcome.doors_judged > 5000
    assert outcome.ends["COMPLETED"] > 700


@pytest.mark.parametrize(
    "weather",
    [
        pytest.param(Weather(unplug_every_s=6), id="unplugged", marks=pytest.mark.long),
        pytest.param(Weather(silence_every_s=5), id="silent devices", marks=pytest.mark.long),
        pytest.param(Weather(ghosts=0.003), id="ghosts", marks=pytest.mark.long),
        pytest.param(Weather(delay_ms=40), id="delayed", marks=pytest.mark.long),
        pytest.param(
            Weather(noise=0.03, unplug_every_s=20, silence_every_s=20, delay_ms=10, ghosts=0.001), id="all"
        ),
    ],
)
@pytest.mark.parametrize(
    "kill_every_s",
    [pytest.param(None, id="alive"), pytest.param(15.0, id="killed", marks=pytest.mark.long)],
)
def test_fifty_lives_on_each_kind_of_bad_wire(
    tmp_path: Path, weather: Weather, kill_every_s: float | None
) -> None:
    outcome = run_storm(demo(), tmp_path / "journal.sqlite", 3, kill_every_s=kill_every_s, weather=weather)
    assert outcome.lives == 50
    assert outcome.doors_judged > 300


@pytest.mark.long
def test_fifty_lives_behind_an_adapter_that_echoes(tmp_path: Path) -> None:
    weather = Weather(echo=True, noise=0.01)
    settings = demo(local_echo=True)
    assert run_storm(settings, tmp_path / "journal.sqlite", 2, kill_every_s=20, weather=weather).lives == 50
