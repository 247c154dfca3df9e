"""A software TPM (swtpm) of a test's own, on sockets in its folder, and OpenSSL's provider for it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.mqtt.tpm_provider import PLACE
from tests.support.bench import wait_for
from tools.bench.settings import REPOSITORY

MODULES = REPOSITORY / "build" / "tpm2-openssl"
"""Where `tools/setup/tpm.sh` puts a provider that works, if the system's own is too old."""


def tpm_environment(place: str) -> dict[str, str]:
    """The environment in which OpenSSL uses the TPM at a place, by the provider of the set-up."""
    modules = {"OPENSSL_MODULES": str(MODULES)} if (MODULES / "tpm2.so").exists() else {}
    return {PLACE: place} | modules


@contextmanager
def software_tpm(folder: Path) -> Iterator[dict[str, str]]:
    """Runs a new TPM for the length of a `with`; gives the environment in which OpenSSL uses it.

    It has room for three objects at once and no resource manager, as one connection to `/dev/tpmrm0` has.
    """
    program = shutil.which("swtpm")
    assert program is not None, "swtpm is missing: bash tools/setup/tpm.sh"
    folder.mkdir()
    data = folder / "tpm"
    command = [
        *(program, "socket", "--tpm2", "--tpmstate", f"dir={folder}"),
        *("--server", f"type=unixio,path={data}", "--ctrl", f"type=unixio,path={data}.ctrl"),
        *("--flags", "not-need-init,startup-clear"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: process.poll() is not None or _listens(data), what="of the software TPM")
        assert process.poll() is None, f"swtpm ended: {process.returncode}"
        yield tpm_environment(f"swtpm:path={data}")
    finally:
        process.kill()
        process.wait()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True
