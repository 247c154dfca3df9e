"""A broker for each test of the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker, running_broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A real Mosquitto."""
    with running_broker(tmp_path / "broker") as running:
        yield running
        running.stop(kill=True)  # nothing is kept; a clean stop takes longer
