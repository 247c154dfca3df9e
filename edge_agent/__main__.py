"""The console script: `edge-agent run` is the daemon; most other commands talk to it.

The daemon's path imports no library of the commands.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from edge_agent.errors import ConfigError, EdgeAgentError, StorageFault

SWITCH_S = 0.001
"""A computing thread gives way to the event loop after this time, instead of Python's default 5 ms."""
INTERRUPTED = 130
"""Exit code after Ctrl-C before a command has begun, as shells count it."""
RUN_HELP = "Run the daemon in the foreground."
RENAMED_HELP = "confirm a new machine_id: go on with the journal written under the old one"
OWN_HELP = "Show this message and exit."
KIOSK_HELP = "Run the kiosk's browser, and restart it when its page is black, crashed or frozen."
REWIRED_HELP = "confirm that cells that are not empty were rewired: start, and record the new wiring"


NO_PIPE = "COMMAND: the browser needs --remote-debugging-pipe, by which its page is checked"


class Parser(argparse.ArgumentParser):
    """Reads a command line; it imports the languages only when it has something to show."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(
            prog=f"edge-agent {name}", description=description, add_help=False, allow_abbrev=False
        )
        self.add_argument("-h", "--help", action="help", help=OWN_HELP)

    def format_help(self) -> str:
        """See `argparse.ArgumentParser.format_help`."""
        from edge_agent.cli.text.plain_parser import help_of

        _use_any_encoding()
        return help_of(self)

    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`."""
        from edge_agent.cli.text.plain_parser import error_of

        _use_any_encoding()
        self.exit(2, error_of(self, message))


def run_parser() -> Parser:
    """The options of `edge-agent run`."""
    parser = Parser("run", RUN_HELP)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the machine's file")
    parser.add_argument("--rewired", action="store_true", help=REWIRED_HELP)
    parser.add_argument("--renamed", action="store_true", help=RENAMED_HELP)
    return parser


def kiosk_parser() -> Parser:
    """The options of `edge-agent kiosk-browser`."""
    parser = Parser("kiosk-browser", KIOSK_HELP)
    parser.add_argument("--url", required=True, metavar="URL", help="the page of [screen]")
    parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="the browser, with its options")
    return parser


def main() -> None:
    """Entry point of `edge-agent`; ends the process with the documented exit codes."""
    if sys.argv[1:2] == ["run"]:
        options = run_parser().parse_args(sys.argv[2:])
        sys.exit(_daemon(options.config, rewired=options.rewired, renamed=options.renamed))
    if sys.argv[1:2] == ["kiosk-browser"]:
        sys.exit(_kiosk_browser(sys.argv[2:]))
    try:
        from edge_agent.cli.commands import app
        from edge_agent.cli.init.search import Wires
        from edge_agent.process.event_loop import precise_loop
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        sys.exit(f"edge-agent: the commands need the extra 'cli' of the package ({error})")
    _use_any_encoding()
    app(obj=Wires(_line, precise_loop, _claim_page))


def _use_any_encoding() -> None:
    """What is shown has a stand-in for each character that the terminal's encoding lacks."""
    from edge_agent.cli.text.encodings import register

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=register())


def _line(name: str, bus: Any) -> Any:
    """The connection to a bus for `edge-agent init`, which may not name drivers itself; imported on use."""
    from edge_agent.app.transports import bus_with_transport

    return bus_with_transport(name, bus)


def _claim_page(port: int, language: str) -> Any:
    """The kiosk's page of a claim code for `edge-agent init --claim`; imported on use."""
    from edge_agent.console.screen.claim_page import claim_page

    return claim_page(port, language)


def keep_rich_out() -> None:
    """Keeps structlog from importing rich, if installed: 4 MB for colours that a service does not need."""
    modules: dict[str, Any] = sys.modules
    modules.setdefault("rich", None)


def _daemon(config: Path, *, rewired: bool, renamed: bool) -> int:
    keep_rich_out()
    # Imported late: a wrong command line is answered at once, and the imports stay lean.
    import structlog

    from edge_agent.app import Service, system_environment
    from edge_agent.app.startup import Confirmed
    from edge_agent.config import load_settings
    from edge_agent.config.modes import UMASK, close_journal, mode_findings
    from edge_agent.config.storage import storage_findings
    from edge_agent.process.core_dumps import keep_out_of_dumps
    from edge_agent.process.event_loop import precise_loop
    from edge_agent.process.log_output import configure

    keep_out_of_dumps()
    os.umask(UMASK)
    configure(sys.stderr, os.environ)

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        service = Service(config, settings, system_environment, confirmed=Confirmed(rewired, renamed))
        loop.add_signal_handler(signal.SIGHUP, service.hang_up)
        await service.run(stop)

    sys.setswitchinterval(SWITCH_S)
    try:
        settings = load_settings(config)
        refused, warned = storage_findings(settings)
        if refused:
            raise ConfigError(refused)
        for finding in [*warned, *close_journal(settings), *mode_findings(settings, config)]:
            structlog.get_logger().warning("configuration", finding=str(finding))
        with asyncio.Runner(loop_factory=precise_loop) as runner:
            runner.run(run())
    except ConfigError as error:
        sys.stderr.writelines(f"{config}: {finding}\n" for finding in error.findings)
        return 2
    except StorageFault as fault:
        sys.stderr.write(f"edge-agent: {fault}\n")
        return 1
    except (EdgeAgentError, ExceptionGroup):
        structlog.get_logger().exception("the daemon ends")
        return 1
    return 0


def _kiosk_browser(arguments: list[str]) -> int:
    parser = kiosk_parser()
    split = arguments.index("--") if "--" in arguments else len(arguments)
    own, command = arguments[:split], arguments[split + 1 :]
    options = parser.parse_args(own)
    if "--remote-debugging-pipe" not in command:
        parser.error(NO_PIPE)
    keep_rich_out()
    from edge_agent.process.browser.watch import BrowserWatch
    from edge_agent.process.log_output import configure
    from edge_agent.supervisor import Supervisor

    configure(sys.stderr, os.environ)
    supervisor = Supervisor.of(os.environ, os.getpid())

    def feed(status: str) -> None:
        if supervisor is not None:
            supervisor.ready(status)
            supervisor.feed()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        watch = asyncio.create_task(BrowserWatch(command, options.url, feed=feed).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, watch.cancel)
        await asyncio.wait([watch])
        if not watch.cancelled():
            watch.result()

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    main()
