"""The unit's command as it stands: cage with a headless output, Chromium, systemd's notifications."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.process.browser.test_watch import LIMIT_S, Kiosk
from tools.bench.settings import REPOSITORY

pytestmark = pytest.mark.long
UNIT = REPOSITORY / "systemd" / "examples" / "kiosk-screen.service"
USER = "nobody"


def unit_command(profile: Path, port: int) -> list[str]:
    """ExecStart with our interpreter, port and folder. Cage refuses to run as root, and the browser's own
    sandbox needs more than a container allows."""
    (text,) = re.findall(
        r"^ExecStart=(.*?)\n[A-Z]", UNIT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    words = [word.replace("8082", str(port)) for word in shlex.split(text.replace("\\\n", " "))]
    words = [word.replace("/run/kiosk-screen/profile", str(profile)) for word in words]
    at = words.index("--") + 1
    assert words[0] == "/usr/bin/edge-agent"
    user = ["setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
    browser = [*user, *words[at:-1], "--no-sandbox", words[-1]]
    return [sys.executable, "-m", "edge_agent", *words[1:at], *browser]


def prepared(folder: Path) -> tuple[Path, dict[str, str]]:
    """The browser's folder, and the environment of a headless output."""
    folder.chmod(0o755)
    profile, runtime = folder / "profile", folder / "runtime"
    for one in (profile, runtime):
        one.mkdir(mode=0o700)
        if os.getuid() == 0:
            shutil.chown(one, USER)
    return profile, {
        "PATH": os.environ["PATH"],
        "HOME": str(profile),
        "XDG_RUNTIME_DIR": str(runtime),
        "WLR_BACKENDS": "headless",
        "WLR_RENDERER": "pixman",
        "WLR_LIBINPUT_NO_DEVICES": "1",
        "NOTIFY_SOCKET": str(folder / "notify"),
    }


@asynccontextmanager
async def unit_running(folder: Path, kiosk: Kiosk) -> AsyncIterator[None]:
    """The unit's command, until the end of the test."""
    profile, environment = prepared(folder)
    kiosk.mark = f"--user-data-dir={profile}"
    command = unit_command(profile, kiosk.port)
    process = await asyncio.create_subprocess_exec(*command, env=environment, cwd=REPOSITORY)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def notified(notify: socket.socket, word: str) -> None:
    """Waits for a status."""
    async with asyncio.timeout(LIMIT_S):
        loop = asyncio.get_running_loop()
        while word not in (await loop.sock_recv(notify, 4096)).decode():
            pass


async def test_the_unit_shows_the_page_and_restarts_it_after_a_crash() -> None:
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
    ):
        folder = Path(name)
        notify.bind(str(folder / "notify"))
        notify.setblocking(False)
        (folder / "notify").chmod(0o777)
        kiosk = Kiosk(name)
        await kiosk.serve()
        async with unit_running(folder, kiosk):
            await notified(notify, "READY=1\nSTATUS=the page is shown")
            for pid in kiosk.processes("renderer"):
                os.kill(pid, signal.SIGKILL)
            await notified(notify, "browser restarted: the page has crashed")
            await notified(notify, "the page is shown")
        assert kiosk.processes("") == kiosk.processes("renderer") == []
        await kiosk.close()
