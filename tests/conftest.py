"""Rules every test lives under: no warning (pyproject), no stray task, no stray thread.

A test may be a coroutine function; it then runs on its own event loop in debug mode.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

os.environ["LC_ALL"] = "C.UTF-8"  # tests of other languages set it themselves

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.fixture(autouse=True, scope="module")
def _old_objects_are_passed_over() -> None:
    """What imports and caches of earlier modules left is no test's garbage.

    The collection after each test would walk all of it: nine tenths of the time of small tests.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs `async def` tests and fails those that leave a task behind."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(function).parameters}

    async def run() -> set[asyncio.Task[Any]]:
        await function(**arguments)
        return asyncio.all_tasks() - {asyncio.current_task()}

    with asyncio.Runner(debug=True) as runner:
        stray = runner.run(run())
        assert not stray, f"stray tasks: {sorted(task.get_name() for task in stray)}"
    return True


@pytest.fixture(autouse=True)
def _no_stray_threads() -> Iterator[None]:
    """Fails a test that leaves a thread; collects garbage, so that unclosed things warn in their own test."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    stray = [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]
    for thread in stray:
        thread.join(timeout=5)
    left = [thread.name for thread in stray if thread.is_alive()]
    assert not left, f"stray threads: {left}"
