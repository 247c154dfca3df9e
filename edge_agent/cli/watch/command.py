"""The command that shows the wall."""

from __future__ import annotations

import asyncio
import sys

import typer

from edge_agent.cli.daemon import DEFAULT_SOCKET, NO_DAEMON, REFUSED, USAGE, Socket, problems
from edge_agent.cli.pin import As, PinFile, known_pin
from edge_agent.cli.text.language import _, from_daemon
from edge_agent.cli.text.times import Utc


def watch(
    socket: Socket = DEFAULT_SOCKET, pin_file: PinFile = None, name: As = None, utc: Utc = False
) -> None:
    """Show the locker live: doors, parcels, weights, temperatures, buses, alarms and events.

    Arrows choose a cell, `o` opens it, `b` blocks, `u` unblocks, `c` clears (each asks first), `/` searches
    a cell or a reservation, `?` shows the keys, `q` ends.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        problems.print(
            _("watch needs a terminal; scripts use `cells --json` and `events --follow`"), style="red"
        )
        raise typer.Exit(USAGE)
    raise typer.Exit(asyncio.run(_watch(socket, known_pin(pin_file), name, utc)))


async def _watch(socket: Socket, pin: str | None, name: str | None, utc: bool) -> int:
    # Late: the library is large, and no other command needs it.
    from edge_agent.cli.watch.app import WatchApp
    from edge_agent.cli.watch.daemon import Daemon, NoDaemon, Refused

    daemon = Daemon(socket)
    try:
        first = await daemon.wall()
        return await WatchApp(daemon, first, name, pin, utc=utc).run_async() or 0
    except NoDaemon as nobody:
        why = _("cannot reach the daemon at {socket}: {error}", socket=socket, error=nobody)
        problems.print(why, style="red", highlight=False)
        return NO_DAEMON
    except Refused as refused:
        problems.print(from_daemon(str(refused)), style="red", highlight=False, markup=False)
        return REFUSED
    finally:
        await daemon.close()
