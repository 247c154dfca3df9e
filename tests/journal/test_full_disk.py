"""A disk that is really full: the journal goes on in the room that was kept for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.errors import StorageFault
from edge_agent.journal.store import SPARE_BYTES, Batch, JournalStore
from tests.support.pure_core.core import Core


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB; skipped where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Somebody else takes all the room there is."""
    path = folder / "somebody-else"
    with path.open("wb") as file:
        try:
            while True:
                file.write(b"\0" * 65536)
                file.flush()
        except OSError:
            return path


def events(first: int) -> Batch:
    state = Core().state
    return Batch(before=state, after=state, events=[(first + n, "x" * 4000) for n in range(50)])


def write_until_full(store: JournalStore) -> None:
    for first in range(1, 5000, 50):
        store.commit(events(first))


@pytest.mark.behaviour("time-19", "time-21")
def test_a_full_disk_accepts_nothing_and_the_reserve_accepts_some_writes(small_disk: Path) -> None:
    store = JournalStore(small_disk / "journal.sqlite")
    with closing(store):
        assert store.keep_spare_space()
        assert store.has_spare_space
        hog = fill(small_disk)
        with pytest.raises(StorageFault):
            write_until_full(store)
        kept = store.outbox_size()
        assert store.use_spare_space()
        assert not store.use_spare_space()
        store.commit(events(100_000))
        assert store.outbox_size() == kept + 50
        assert not store.keep_spare_space()
        hog.unlink()
        assert store.keep_spare_space()
    reserve = small_disk / "journal.sqlite.reserve"
    assert reserve.stat().st_blocks * 512 >= SPARE_BYTES


def test_a_disk_with_too_little_room_keeps_no_reserve(small_disk: Path) -> None:
    with (small_disk / "big").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 16 * 1024 * 1024)
    with closing(JournalStore(small_disk / "journal.sqlite")) as store:
        assert not store.keep_spare_space()
        assert not store.has_spare_space
