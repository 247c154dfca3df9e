"""The core is pure: its tests start no thread, and need not pay for looking for one."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_stray_threads() -> None:
    """In place of the house's check of the same name, which collects garbage after every test."""
