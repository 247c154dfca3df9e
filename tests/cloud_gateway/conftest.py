"""A broker for each test of the gateway, and one PostgreSQL for those that need it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker, running_broker
from tests.support.postgres import Postgres, running_postgres


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A real Mosquitto."""
    with running_broker(tmp_path / "broker") as running:
        yield running
        running.stop(kill=True)  # nothing is kept; a clean stop takes longer


@pytest.fixture(scope="package")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL; each test takes a database of its own."""
    with running_postgres() as running:
        yield running
