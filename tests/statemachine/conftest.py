"""The core is pure: its tests start no thread, and need not pay for looking for one."""

from __future__ import annotations

import os

import pytest
from hypothesis import Phase, settings

FOR_MUTANTS = os.environ.get("CORE_EFFORT") in ("least", "fast")
SLOW = ("test_tables.py", "test_model.py")
"""In the search for mutants what is quick goes first: the first failure ends the run."""


if FOR_MUTANTS:  # that something fails is enough: no small example is looked for
    settings.register_profile("mutants", phases=[Phase.generate], max_examples=30)
    settings.load_profile("mutants")


@pytest.fixture(autouse=True)
def _no_stray_threads() -> None:
    """In place of the house's check of the same name, which collects garbage after every test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the slow files last where only the first failure counts."""
    if FOR_MUTANTS:
        items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else -1)
