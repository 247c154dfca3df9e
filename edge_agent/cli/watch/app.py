"""The live locker wall in the terminal: every cell as it stands, the buses, what happens; and keys to act."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from getpass import getuser
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal, Vertical, VerticalScroll
from textual.events import Resize
from textual.widgets import Footer, RichLog, Static
from textual.worker import WorkerCancelled

from edge_agent.cli.pin import headers_of
from edge_agent.cli.text.language import _, from_daemon, marked
from edge_agent.cli.watch.daemon import Daemon, NoDaemon, Refused, Wall
from edge_agent.cli.watch.dialogs import ACTS, AskPin, Confirm, Help, Search
from edge_agent.cli.watch.tiles import details, event_line, headline, health, line, stale_headline, tile
from edge_agent.runtime.clock import SystemClock

REFRESH_S = 0.5
"""How often everything is read."""
RECONNECT_S = 1.0
"""Between attempts at a daemon that is not there."""
TILE_WIDTH = 22
"""Columns of a tile with its border."""
TILE_HEIGHT = 6
BELOW_HEIGHT = 13
"""What is not the wall: headline, what happens, keys."""
STYLE = """
Screen { layout: vertical; }
#headline { height: auto; max-height: 3; padding: 0 1; background: $panel; }
#middle { height: auto; max-height: 75%; }
#wall { width: 1fr; height: auto; }
#cells { grid-gutter: 0; height: auto; }
#side { width: 34; height: 100%; border-left: solid $panel; padding: 0 1; }
#below { height: 1fr; min-height: 6; border-top: solid $panel; }
#details { height: auto; max-height: 3; padding: 0 1; }
#events { height: 1fr; padding: 0 1; background: $background; overflow-x: hidden; }
#said { height: 1; padding: 0 1; }
Tile { height: 1; padding: 0 1; }
Tile.tile { height: 6; border: round $surface-lighten-2; }
Tile.tile.open { border: round $warning; }
Tile.tile.bad { border: round $error; }
Tile.tile:focus { border: double $accent; }
Tile:focus { background: $primary; }
.stale Tile { opacity: 35%; }
.stale #health { opacity: 35%; }
.stale #headline { background: $error; }
Confirm, AskPin, Help, Search { align: center middle; }
#dialog { width: 64; max-width: 95%; height: auto; padding: 1 2; }
#dialog { border: thick $accent; background: $surface; }
#dialog .hint { color: $text-muted; }
"""


BELOW = (
    ("o", "act('open')", marked("open door"), "o"),
    ("b", "act('block')", marked("block"), "b"),
    ("u", "act('unblock')", marked("unblock"), "u"),
    ("c", "act('clear')", marked("clear"), "c"),
    ("slash", "search", marked("search"), "/"),
    ("question_mark", "help", marked("help"), "?"),
    ("q", "quit", marked("quit"), "q"),
)
"""The keys below the wall: key, action, what it does, how it is shown."""


class Tile(Static, can_focus=True):
    """One cell."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "app.go(-1, 0)", "", show=False),
        Binding("right,l", "app.go(1, 0)", "", show=False),
        Binding("up,k", "app.go(0, -1)", "", show=False),
        Binding("down,j", "app.go(0, 1)", "", show=False),
    ]

    def __init__(self, cell: dict[str, Any]) -> None:
        super().__init__(id=f"cell-{cell['label']}")
        self.cell = cell
        self._compact = False

    def show(self, cell: dict[str, Any], compact: bool) -> None:
        """The cell as it stands now, in one line or in four."""
        if (cell, compact) != (self.cell, self._compact) or not self.classes:
            self.cell, self._compact = cell, compact
            self.set_classes(_classes(cell, compact))
            self.update(line(cell) if compact else tile(cell))

    def on_focus(self) -> None:
        """The chosen cell is shown in full."""
        self.app.query_one("#details", Static).update(details(self.cell))


class WatchApp(App[int]):
    """The live view of all cells. Without an answer of the daemon it turns grey."""

    TITLE = "edge-agent"
    ENABLE_COMMAND_PALETTE = False
    CSS = STYLE

    def __init__(
        self,
        daemon: Daemon,
        first: Wall,
        technician: str | None,
        pin: str | None,
        *,
        utc: bool = False,
        now_s: Callable[[], float] = lambda: SystemClock().now().wall_s,
    ) -> None:
        """`first`: the first answer of the daemon. `technician`: who acts; None: the user who runs this.
        `pin`: None: it is asked for when the daemon needs it. `utc`: times in UTC, else in local time.
        `now_s`: Unix time in seconds."""
        super().__init__()
        for key, action, text, sign in BELOW:
            self.bind(key, action, description=_(text), key_display=sign)
        self.bind("n", "next_match", show=False)
        self._now_s = now_s
        self._answered_s = now_s()
        self._sought = ""
        self._daemon = daemon
        self._wall = first
        self._technician = technician
        self._pin = pin
        self._utc = utc
        self._columns = 1
        self._compact = False

    def compose(self) -> ComposeResult:
        """The headline, the cells beside the buses and alarms, what happens, the keys."""
        yield Static(headline(self._wall.status), id="headline", markup=False)
        with Horizontal(id="middle"):
            with VerticalScroll(id="wall", can_focus=False), Grid(id="cells"):
                for cell in self._wall.cells:
                    yield Tile(cell)
            with VerticalScroll(id="side", can_focus=False):
                yield Static(health(self._wall.status, self._wall.buses), id="health", markup=False)
        with Vertical(id="below"):
            yield Static("", id="details", markup=False)
            log = RichLog(id="events", max_lines=500, wrap=True, min_width=20)
            log.can_focus = False
            yield log
        yield Static("", id="said", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Starts to read the daemon's state."""
        self._lay_out(self.size.width, self.size.height)
        self.query(Tile).first().focus()
        self.run_worker(self._look(), name="look")
        self.run_worker(self._follow(), name="follow")

    async def on_unmount(self) -> None:
        """Cancels the workers, also one that waits for a dialog."""
        self.workers.cancel_all()
        with contextlib.suppress(WorkerCancelled):
            await self.workers.wait_for_complete()

    def on_resize(self, event: Resize) -> None:
        """As many columns as there is room for."""
        self._lay_out(event.size.width, event.size.height)

    def _lay_out(self, width: int, height: int) -> None:
        grid = self.query_one("#cells", Grid)
        side = self.query_one("#side")
        side.display = width >= 2 * TILE_WIDTH + 34
        room = width - (36 if side.display else 2)
        self._columns = max(1, min(8, room // TILE_WIDTH))
        grid.styles.grid_size_columns = self._columns
        rows = grid.styles.grid_size_rows = math.ceil(len(self._wall.cells) / self._columns)
        self._compact = rows * TILE_HEIGHT > height - BELOW_HEIGHT
        grid.styles.grid_rows = "1" if self._compact else str(TILE_HEIGHT)
        for one in self.query(Tile):
            one.show(one.cell, self._compact)

    async def _look(self) -> None:
        while True:
            try:
                self._show(await self._daemon.wall())
            except (NoDaemon, Refused) as problem:
                self._turn_stale()
                text = _(
                    "the daemon at {socket} does not answer: {why}", socket=self._daemon.socket, why=problem
                )
                self._say(text, "bold red")
                await asyncio.sleep(RECONNECT_S)
                continue
            await asyncio.sleep(REFRESH_S)

    def _turn_stale(self) -> None:
        """Shows that the picture is old, and since when."""
        self.add_class("stale")
        for head in self.query("#headline").results(Static):  # none while the wall is being taken down
            head.update(stale_headline(self._wall.status, self._answered_s, utc=self._utc))

    def _show(self, wall: Wall) -> None:
        self._answered_s = self._now_s()
        if self.has_class("stale"):
            self.remove_class("stale")
            self._say(_("the daemon answers again"), "green")
        self._wall = wall
        if not self.query("#headline"):
            return  # the wall is being taken down
        self.query_one("#headline", Static).update(headline(wall.status))
        self.query_one("#health", Static).update(health(wall.status, wall.buses))
        tiles = {tile.cell["label"]: tile for tile in self.query(Tile)}
        if tiles.keys() != {cell["label"] for cell in wall.cells}:
            self.exit(0, message=_("the configuration has changed; start `edge-agent watch` again"))
            return
        for cell in wall.cells:
            tiles[cell["label"]].show(cell, self._compact)
        chosen = self._chosen()
        if chosen is not None:
            self.query_one("#details", Static).update(details(chosen.cell))

    async def _follow(self) -> None:
        log = self.query_one("#events", RichLog)
        while True:
            try:
                log.clear()
                for row in await self._daemon.last_events():
                    log.write(event_line(row, utc=self._utc))
                async for row in self._daemon.follow():
                    log.write(event_line(row, utc=self._utc))
            except (NoDaemon, Refused):
                pass  # `_look` reports it
            await asyncio.sleep(RECONNECT_S)

    def _chosen(self) -> Tile | None:
        """The cell that is chosen, also below a dialog."""
        focused = self.screen_stack[0].focused
        return focused if isinstance(focused, Tile) else None

    def action_go(self, right: int, down: int) -> None:
        """Chooses the next cell in a direction, where there is one."""
        tiles = list(self.query(Tile))
        chosen = self._chosen()
        place = 0 if chosen is None else tiles.index(chosen)
        if right and not 0 <= place % self._columns + right < self._columns:
            return
        place += right + down * self._columns
        if 0 <= place < len(tiles):
            tiles[place].focus()

    def action_help(self) -> None:
        """Shows what the keys do."""
        if len(self.screen_stack) == 1:
            self.push_screen(Help())

    def action_search(self) -> None:
        """Asks for a cell or a reservation, and chooses the first that matches."""
        if len(self.screen_stack) == 1:
            self.push_screen(Search(), self._search)

    def action_next_match(self) -> None:
        """Chooses the next cell that matches the last search."""
        if self._sought and len(self.screen_stack) == 1:
            self._search(self._sought)

    def _search(self, text: str | None) -> None:
        """Chooses the next cell, after the chosen one, whose label or reservation begins with a text; where
        none does, one that has the text somewhere in them."""
        if not text:
            return
        self._sought = text
        tiles = list(self.query(Tile))
        chosen = self._chosen()
        place = -1 if chosen is None else tiles.index(chosen)
        for fits in (begins_with, contains):
            for one in [*tiles[place + 1 :], *tiles[: place + 1]]:
                if fits(one.cell, text):
                    one.focus()
                    one.scroll_visible(animate=False)
                    said = _(
                        "{cell} matches {text}; n: the next one", cell=one.cell["label"], text=repr(text)
                    )
                    self._say(said, "")
                    return
        self._say(_("no cell and no reservation matches {text}", text=repr(text)), "yellow")

    def action_act(self, name: str) -> None:
        """Asks for confirmation, then carries out the action on the chosen cell."""
        chosen = self._chosen()
        if chosen is None or len(self.screen_stack) > 1:
            return
        if self.has_class("stale"):
            self._say(_("without the daemon no action is possible"), "bold red")
            return
        self.run_worker(self._act(name, chosen.cell["label"]), name=f"{name} {chosen.cell['label']}")

    async def _act(self, name: str, label: str) -> None:
        act = ACTS[name]
        reason = await self.push_screen_wait(Confirm(act, label))
        if reason is None:
            return
        given = reason if act.with_reason else None
        self._say(f"{name} {label} …", "")
        try:
            try:
                await self._daemon.act(label, name, given, headers_of(self._technician, self._pin))
            except Refused as refused:
                if not refused.wants_pin:
                    raise
                why = from_daemon(str(refused))
                pin = await self.push_screen_wait(AskPin(self._technician or getuser(), why))
                if pin is None:
                    self._say(f"{name} {label}: {_('not done')}", "yellow")
                    return
                await self._daemon.act(label, name, given, headers_of(self._technician, pin))
        except (NoDaemon, Refused) as problem:
            self._say(f"{name} {label}: {from_daemon(str(problem))}", "bold red")
        else:
            self._say(_(act.done, label=label), "green")

    def _say(self, what: str, style: str) -> None:
        for line_below in self.query("#said").results(Static):  # none while the wall is being taken down
            line_below.update(Text(what, style))


def begins_with(cell: dict[str, Any], text: str) -> bool:
    """Whether the label of a cell or its reservation begins with a text, in upper or lower case."""
    return any(one.casefold().startswith(text.casefold()) for one in _searched(cell))


def contains(cell: dict[str, Any], text: str) -> bool:
    """Whether the label of a cell or its reservation holds a text, in upper or lower case."""
    return any(text.casefold() in one.casefold() for one in _searched(cell))


def _searched(cell: dict[str, Any]) -> list[str]:
    return [cell["label"], cell["reservation_id"] or ""]


def _classes(cell: dict[str, Any], compact: bool) -> str:
    bad = cell["faulty"] or cell["blocked"] or cell["door"] == "unknown"
    shape = "line" if compact else "tile"
    return f"{shape} {'bad' if bad else 'open' if cell['door'] == 'open' else ''}"
