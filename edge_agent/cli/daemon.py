"""How the commands reach the daemon, and what they share: exit codes, options, the two consoles."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edge_agent.cli.text.language import _, from_daemon
from edge_agent.cli.text.lines import hanging
from edge_agent.cli.text.tables import fitting

_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that control a terminal, change the direction of text, end lines, or are no
characters."""
_KEPT = frozenset("\t\n\u200c\u200d")
"""Characters of these categories that texts need, such as the joiners of Persian and of Indian scripts."""


def _shown(character: str) -> str:
    steers = unicodedata.category(character) in _STEERING and character not in _KEPT
    return "\N{REPLACEMENT CHARACTER}" if steers else character


def visible(value: Any) -> Any:
    """A JSON value with the characters replaced that control a terminal or change the direction of text:
    order ids, notes and reasons may hold any text."""
    if isinstance(value, str):
        return value if value.isascii() and value.isprintable() else "".join(map(_shown, value))
    if isinstance(value, list):
        return [visible(one) for one in value]
    if isinstance(value, dict):
        return {visible(key): visible(one) for key, one in value.items()}
    return value


SPELLED = {"Ω": "Ohm", "…": "...", "→": "->", "–": "-", "—": "-"}
"""Signs that many a terminal's encoding lacks, and what stands for them there."""


def encodable(text: str, encoding: str) -> str:
    """A text with the signs of `SPELLED` replaced that an encoding lacks; the others are for the stream."""
    if text.isascii():
        return text
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        for sign, spelled in SPELLED.items():
            text = text.replace(sign, spelled)
    return text


class TerminalConsole(Console):
    """Shows what `visible` leaves of a text."""

    def render_str(self, text: str, **options: Any) -> Text:
        """See `rich.console.Console.render_str`."""
        return super().render_str(encodable(visible(text), self.encoding), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """See `rich.console.Console.print`; tables fit the terminal (`edge_agent.cli.text.tables`), and there
        no word of a line with `soft_wrap` is divided (`edge_agent.cli.text.lines`)."""
        fit = [fitting(thing, self) if isinstance(thing, Table) else thing for thing in objects]
        if options.get("soft_wrap") and self.is_terminal:
            options = {**options, "soft_wrap": False}
            fit = [hanging(self._as_text(thing, options), self) for thing in fit]
        super().print(*fit, **options)

    def _as_text(self, thing: Any, options: dict[str, Any]) -> Text:
        if isinstance(thing, Text):
            return thing
        return self.render_str(str(thing), markup=options.get("markup"), highlight=options.get("highlight"))


console = TerminalConsole()
problems = TerminalConsole(stderr=True)

REFUSED, USAGE, NO_DAEMON = 1, 2, 3
UNLOCK_TIMEOUT_S = 60.0

Socket = Annotated[
    Path,
    typer.Option("--socket", metavar="FILE", envvar="EDGE_AGENT_SOCKET", help="the daemon's Unix socket"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for scripts")]
DEFAULT_SOCKET = Path("/run/edge-agent/agent.sock")
DEFAULT_CONFIG = Path("/etc/edge-agent/locker.toml")


def file_problem(path: object, error: OSError) -> str:
    """What is wrong with a file, in the language of the locale."""
    return f"{path}: {from_daemon(error.strerror or str(error))}"


_ERRNO = re.compile(r"^\[Errno \d+\] ")


def _no_daemon(socket: Path, error: Exception) -> typer.Exit:
    said = from_daemon(_ERRNO.sub("", str(error)))
    why = _("cannot reach the daemon at {socket}: {error}", socket=socket, error=said)
    problems.print(why, style="red", highlight=False, markup=False)
    return typer.Exit(NO_DAEMON)


class PinNeeded(Exception):
    """The daemon needs a technician's PIN (UNAUTHENTICATED), and none was sent. Holds its message."""


PIN_NEEDED = 16


def _refused(response: httpx.Response, headers: dict[str, str] | None) -> Exception:
    """The error to end with after a refusal; `PinNeeded` if a PIN is missing and `headers` could send it."""
    refused = refusal_in(response)
    if headers is not None and refused["code"] == PIN_NEEDED:
        return PinNeeded(refused["message"])
    problems.print(from_daemon(refused["message"]), style="red", highlight=False, markup=False)
    return typer.Exit(REFUSED)


def refusal_in(response: httpx.Response) -> dict[str, Any]:
    """Code and message of a daemon's refusal; without a code if the daemon fails or is ending."""
    try:
        body: dict[str, Any] = response.json()
        return {"code": body["code"], "message": str(body["message"])}
    except (ValueError, TypeError, KeyError):
        return {
            "code": None,
            "message": _("the daemon gave no reason (HTTP {status}); try again", status=response.status_code),
        }


def call(
    socket: Path,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    *,
    quiet: bool = False,
) -> Any:
    """The daemon's response; ends the process if there is none (without a message if `quiet`) or it is a
    refusal.

    With `headers` (see `edge_agent.cli.pin`) it raises `PinNeeded` if the daemon also needs a PIN.
    """
    try:
        transport = httpx.HTTPTransport(uds=str(socket))
        with httpx.Client(transport=transport, base_url="http://agent", timeout=UNLOCK_TIMEOUT_S) as client:
            response = client.request(method, path, json=body, headers=headers)
    except httpx.TransportError as error:
        raise (typer.Exit(NO_DAEMON) if quiet else _no_daemon(socket, error)) from None
    if response.is_error:
        raise _refused(response, headers)
    return response.json()


def rows_of(
    socket: Path,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    *,
    on_place: Callable[[str], None] | None = None,
) -> Generator[dict[str, Any], None, None]:
    """Rows that the daemon streams (server-sent events), until the stream ends.

    Ends the process if the daemon is not there or refuses; `headers`: see `call`. `on_place` gets each place
    from which the stream can be continued; with a place, the end of the connection is no news.
    """
    quiet = headers is not None and "Last-Event-ID" in headers
    try:
        transport = httpx.HTTPTransport(uds=str(socket))
        with (
            httpx.Client(transport=transport, base_url="http://agent", timeout=None) as client,
            client.stream(method, path, json=body, headers=headers) as response,
        ):
            if response.is_error:
                response.read()
                raise _refused(response, headers)
            for line in response.iter_lines():
                if line.startswith("id: ") and on_place is not None:
                    on_place(line.removeprefix("id: "))
                    quiet = True
                elif line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))
    except httpx.TransportError as error:
        raise (typer.Exit(NO_DAEMON) if quiet else _no_daemon(socket, error)) from None


@contextmanager
def until_stopped() -> Iterator[None]:
    """Ctrl-C ends the process with exit code 0."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def print_json(value: Any) -> None:
    """Prints a value as indented JSON; see `visible`."""
    typer.echo(json.dumps(visible(value), indent=2, ensure_ascii=False))


def print_json_line(row: Any) -> None:
    """Prints a row as JSON on one line; see `visible`."""
    typer.echo(json.dumps(visible(row), ensure_ascii=False))
