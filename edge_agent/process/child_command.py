"""Runs commands of `edge-agent` as child processes, for work that must not burden the daemon."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from edge_agent.errors import Code, Refusal

LONGEST_OUTPUT_BYTES = 16 * 1024 * 1024


async def run_command(arguments: Sequence[str], limit_s: float) -> bytes:
    """The standard output of `edge-agent ARGUMENTS`, run by this interpreter, without a shell.

    Raises `Refusal`: `INTERNAL` with its last line of errors if it fails, `EXPIRED` if it takes longer than
    `limit_s`; it is ended then.
    """
    isolated = ["-I"] if sys.flags.isolated else []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *isolated,
        "-m",
        "edge_agent",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        limit=LONGEST_OUTPUT_BYTES,
    )
    try:
        async with asyncio.timeout(limit_s):
            output, errors = await process.communicate()
    except TimeoutError:
        raise Refusal(Code.EXPIRED, f"edge-agent {arguments[0]} took longer than {limit_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()
        why = lines[-1] if lines else f"exit code {process.returncode}"
        raise Refusal(Code.INTERNAL, f"edge-agent {arguments[0]}: {why}")
    return output
