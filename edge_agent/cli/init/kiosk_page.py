"""The kiosk's own page while `edge-agent init --claim` waits: it shows the code, as the terminal does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edge_agent.cli.daemon import problems
from edge_agent.cli.init.search import ClaimPage
from edge_agent.cli.text.language import _, language
from edge_agent.config.load import read_document
from edge_agent.config.screen import USUAL_PORT
from edge_agent.errors import ConfigError

Show = Callable[[str | None], object]
"""Shows a code, or takes it away (None)."""


def show_nothing(_code: str | None) -> None:
    """Where no page is served."""


@contextmanager
def kiosk_page(page: ClaimPage | None, output: Path, port: int | None) -> Iterator[Show]:
    """What shows a code at the kiosk for the length of a `with`. A port that cannot be had is named in one
    line, and nothing more comes of it."""
    chosen = port or _port_of(output)
    with ExitStack() as stack:
        show: Show = show_nothing
        try:
            if page is not None:
                show = stack.enter_context(page(chosen, language()))
        except OSError as problem:
            said = _(
                "the kiosk's screen does not show the code: port {port}: {reason}",
                port=chosen,
                reason=problem.strerror or str(problem),
            )
            problems.print(said, style="yellow", highlight=False, markup=False, soft_wrap=True)
        yield show


def _port_of(output: Path) -> int:
    """The port of the configuration that is replaced; the usual one if there is none."""
    try:
        port = read_document(output).get("screen", {}).get("port")
    except (ConfigError, OSError, AttributeError):
        return USUAL_PORT
    return port if type(port) is int and 1 <= port <= 65_535 else USUAL_PORT
