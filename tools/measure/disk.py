"""What a reservation costs the disk, and the disk's best performance."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tools.measure.daemon import written_bytes
from tools.measure.figures import Figure
from tools.measure.lives import person_at
from tools.measure.rig import Run, rig_of

PAGE = 4096
FLOOR_FILE_PAGES = 256
WAL_HEADER = 32
FRAME_HEADER = 24


@dataclass(frozen=True, slots=True)
class Wal:
    """The commits in a write-ahead log since its last restart, which changes the salt."""

    salt: bytes
    commits: int


def read_wal(data: bytes) -> Wal:
    """Counts the frames that end a commit (SQLite file format, 4.1: their size field is not zero) and have
    the log's present salt; those behind them are from before the restart."""
    if len(data) < WAL_HEADER:
        return Wal(b"", 0)
    page, salt = int.from_bytes(data[8:12], "big"), data[16:24]
    commits = 0
    for at in range(WAL_HEADER, len(data) - FRAME_HEADER - page + 1, FRAME_HEADER + page):
        if data[at + 8 : at + 16] != salt:
            break
        commits += any(data[at + 4 : at + 8])
    return Wal(salt, commits)


def disk(run: Run) -> list[Figure]:
    """Commits and bytes of a whole life (reserved, dropped off, picked up, completed, all events sent and
    taken out of the outbox), counted from outside: write-ahead log and /proc/PID/io."""
    commits: list[int] = []
    written: list[float] = []
    with rig_of(run) as rig, person_at(rig, gateway=False) as person:
        wal_file = rig.journal.with_name(f"{rig.journal.name}-wal")
        time.sleep(0.3)
        for _ in range(run.pick(15, 3)):
            before, bytes_ = read_wal(wal_file.read_bytes()), written_bytes(rig.pid("agent"))
            person.live()
            time.sleep(0.3)
            after = read_wal(wal_file.read_bytes())
            if after.salt == before.salt:
                commits.append(after.commits - before.commits)
            written.append((written_bytes(rig.pid("agent")) - bytes_) / 1024)
        floor = [fdatasync_rate(rig.folder) for _ in range(run.pick(5, 2))]
    rate, per_life = median(floor), median(commits)
    mean_written = sum(written) / len(written)
    return [
        Figure(
            "commits per life", per_life, "", len(commits), note="lives over which the log restarted left out"
        ),
        Figure(
            "written per life",
            mean_written,
            "KiB",
            len(written),
            per_life * PAGE / 1024,
            "one page a commit",
            "<= 256",
            "mean, checkpoints inside; write_bytes of the daemon",
        ),
        Figure(
            "fdatasync floor",
            rate,
            "1/s",
            len(floor),
            note="one page written over, then fdatasync, same folder",
        ),
        Figure("lives the disk allows", rate / per_life, "1/s", len(floor), note="floor / commits per life"),
    ]


def fdatasync_rate(folder: Path, seconds: float = 1.0) -> float:
    """Overwrites of one page of a preallocated file, each followed by fdatasync, a second."""
    path = folder / "floor"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, os.urandom(PAGE * FLOOR_FILE_PAGES), 0)
        os.fsync(descriptor)
        page, done, begun_s = os.urandom(PAGE), 0, time.monotonic()
        while time.monotonic() - begun_s < seconds:
            os.pwrite(descriptor, page, done % FLOOR_FILE_PAGES * PAGE)
            os.fdatasync(descriptor)
            done += 1
        return done / (time.monotonic() - begun_s)
    finally:
        os.close(descriptor)
        path.unlink()
