"""Whether a folder is on a filesystem that loses its content at a power cut.

Facts: /proc/self/mountinfo (proc(5)) names for each mount its mount point, type and options; an overlay names
its `upperdir`, where everything is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
FORGETFUL = frozenset({"tmpfs", "ramfs", "rootfs", "devtmpfs"})
DEEPEST = 8
"""The deepest nesting of overlays that is followed."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`volatile` is None if it is unknown; `why` names the filesystem."""

    volatile: bool | None
    why: str


@dataclass(frozen=True, slots=True)
class _Mount:
    point: str
    kind: str
    options: dict[str, str]


def verdict(folder: Path, mounts: Path = MOUNTS) -> Verdict:
    """Whether data written in a folder, which need not exist yet, survives a power cut."""
    try:
        found = list(_mounts(mounts.read_text(encoding="utf-8", errors="surrogateescape")))
    except OSError as error:
        return Verdict(None, f"{mounts}: {error.strerror}")
    return _judge(os.path.realpath(folder), found, DEEPEST)


def _judge(place: str, mounts: list[_Mount], depth: int) -> Verdict:
    mount = _of(place, mounts)
    if mount is None:
        return Verdict(None, f"no mount holds {place}")
    named = f"{place} is on {mount.kind} ({mount.point})"
    if mount.kind in FORGETFUL:
        return Verdict(True, named)
    if mount.kind != "overlay":
        return Verdict(False, named)
    upper = mount.options.get("upperdir")
    if "volatile" in mount.options:
        return Verdict(True, f"{named}, mounted volatile")
    if upper is None or depth == 0:
        return Verdict(None, f"{named}, and where it writes is not known")
    below = _of(upper, mounts)
    if below is None or below.point == mount.point or not os.path.isdir(upper):
        return Verdict(None, f"{named}, and its upper layer {upper} is not in sight")
    judged = _judge(upper, mounts, depth - 1)
    return Verdict(judged.volatile, f"{named}, whose upper layer {judged.why}")


def _of(place: str, mounts: list[_Mount]) -> _Mount | None:
    """The mount that holds a path; if several share one mount point, the last one counts."""
    best: _Mount | None = None
    for mount in mounts:
        inside = mount.point == "/" or place == mount.point or place.startswith(f"{mount.point}/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _mounts(text: str) -> Iterator[_Mount]:
    for line in text.splitlines():
        fields, _, rest = line.partition(" - ")
        before, after = fields.split(), rest.split()
        if len(before) >= 5 and len(after) >= 3:
            pairs = [option.partition("=") for option in after[2].split(",")]
            options = {key: _plain(value) for key, _, value in pairs}
            yield _Mount(_plain(before[4]), after[0], options)


def _plain(text: str) -> str:
    """Decodes blanks and the like, which are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
