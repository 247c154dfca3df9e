"""A whole daemon whose key is in a TPM, as a process of its own: OpenSSL keeps a provider, and with it the
TPM, for the life of a process.

Usage: `python -m tests.enrolment.tpm_machine FOLDER PORT CA_FILE`; it works until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from edge_agent.enrolment.files import CERTIFICATE, KEY
from tests.support.real_site import real_site
from tests.support.secure import LOCALHOST


async def main(folder: Path, port: int, ca_file: str) -> None:
    """Runs the daemon with the files below `enrolment`."""
    pair = {"cert_file": f"enrolment/{CERTIFICATE}", "key_file": f"enrolment/{KEY}"}
    mqtt = {"host": LOCALHOST, "port": port, "tls": {"ca_file": ca_file, **pair}}
    async with real_site(folder, mqtt, synced=True):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
