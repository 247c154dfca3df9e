"""The section of the kiosk's screen: its bounds, and what a wrong one is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent.config import load_settings
from tests.test_config import demo, findings, write


def test_without_the_section_there_is_no_screen(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, demo())).screen is None


def test_a_port_is_enough(tmp_path: Path) -> None:
    screen = load_settings(write(tmp_path, demo() | {"screen": {"port": 8082}})).screen
    assert screen is not None
    assert (screen.language, screen.back_s, screen.help) == ("en", 40, "")


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({}, "screen.port"),
        ({"port": 0}, "screen.port"),
        ({"port": 65_536}, "screen.port"),
        ({"port": "8082"}, "screen.port"),
        ({"port": 8082, "language": "fr"}, "screen.language"),
        ({"port": 8082, "back_s": 5}, "screen.back_s"),
        ({"port": 8082, "help": "x" * 81}, "screen.help"),
        ({"port": 8082, "speech": True}, "screen.speech"),
        ({"port": 8082, "listen": "0.0.0.0"}, "screen.listen"),
    ],
    ids=lambda value: str(value),
)
def test_a_wrong_value_is_named_by_its_key(tmp_path: Path, section: dict[str, Any], path: str) -> None:
    (finding,) = findings(tmp_path, demo() | {"screen": section})
    assert finding.startswith(f"{path}: ")


def test_the_port_of_the_metrics_is_taken(tmp_path: Path) -> None:
    sections = {"screen": {"port": 9464}, "metrics": {"listen": "127.0.0.1:9464"}}
    assert findings(tmp_path, demo() | sections) == ["screen.port: 9464 is taken by metrics.listen"]
