"""The dialogs before an action: confirmation, reason, and the technician's PIN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.table import Table
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static

from edge_agent.cli.text.language import _, marked


@dataclass(frozen=True, slots=True)
class Act:
    """One act of a technician: the question before it, and the text that is shown when it is done."""

    question: str
    done: str
    with_reason: bool


ACTS = {  # by the name that the local API has for it
    "open": Act(
        marked("Open the door of {label}? Somebody's parcel may be in it."), marked("{label} is open"), True
    ),
    "block": Act(marked("Take {label} out of allocation?"), marked("{label} is blocked"), True),
    "unblock": Act(
        marked("Give {label} back to allocation?"), marked("{label} is not blocked any more"), False
    ),
    "clear": Act(
        marked("Have you inspected {label}: is it empty and in order?"), marked("{label} is clear"), False
    ),
}


class Confirm(ModalScreen[str | None]):
    """Asks for confirmation, and for a reason if the action needs one; returns the reason (or ""), or
    None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", ""),
        Binding("n", "refuse", "", show=False),
        Binding("y,j", "agree", "", show=False),
    ]

    def __init__(self, act: Act, label: str) -> None:
        super().__init__()
        self._act = act
        self._label = label

    def compose(self) -> ComposeResult:
        """The question, and a line for the reason."""
        with Vertical(id="dialog"):
            yield Label(_(self._act.question, label=self._label), id="question", markup=False)
            if self._act.with_reason:
                yield Input(placeholder=_("the reason, for the journal"), max_length=256, id="reason")
                yield Label(_("Enter confirms, Esc cancels"), classes="hint")
            else:
                yield Label(_("y confirms, n or Esc cancels"), classes="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter is a yes, if there is a reason."""
        if event.value.strip():
            self.dismiss(event.value.strip())

    def action_agree(self) -> None:
        """A plain yes is enough where no reason is wanted."""
        if not self._act.with_reason:
            self.dismiss("")

    def action_refuse(self) -> None:
        """A plain no."""
        if not self._act.with_reason:
            self.dismiss(None)


KEYS = (
    ("← ↑ ↓ →  h k j l", marked("choose a cell")),
    ("o", marked("open the door of the chosen cell")),
    ("b, u", marked("take the cell out of allocation; give it back")),
    ("c", marked("clear the cell after you have inspected it")),
    ("/", marked("search a cell or a reservation by the beginning of its name")),
    ("n", marked("the next cell that matches")),
    ("?", marked("this help")),
    ("q", marked("quit")),
)
"""What the keys do; each act asks first."""
SIGNS = (
    ("▣ □ ?", marked("door closed, open, unknown")),
    ("~", marked("the weight has not settled")),
    (marked("grey"), marked("the daemon does not answer: the head line says since when")),
)
"""What else is to be seen."""
WORDS = frozenset({"grey"})
"""Signs that are words."""


class Help(ModalScreen[None]):
    """What the keys do and what the signs mean."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss(None)", ""),
    ]

    def compose(self) -> ComposeResult:
        """Two tables without borders."""
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="bold")
        table.add_column(overflow="fold")
        for key, meaning in (*KEYS, ("", ""), *SIGNS):
            table.add_row(_(key) if key in WORDS else key, _(meaning) if meaning else "")
        with Vertical(id="dialog"):
            yield Static(table, id="keys")
            yield Label(_("Esc closes this"), classes="hint")


class Search(ModalScreen[str | None]):
    """Asks what to look for; returns it, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "")]

    def compose(self) -> ComposeResult:
        """One line."""
        with Vertical(id="dialog"):
            yield Label(_("Search a cell or a reservation:"), id="question", markup=False)
            yield Input(placeholder="A03, res_…", max_length=128, id="sought")
            yield Label(_("Enter searches, Esc cancels"), classes="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter searches."""
        self.dismiss(event.value.strip() or None)


class AskPin(ModalScreen[str | None]):
    """Asks for the technician's PIN, hidden; gives it, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "")]

    def __init__(self, who: str, why: str) -> None:
        super().__init__()
        self._question = f"{why}\n{_('PIN of {name}: ', name=who)}"

    def compose(self) -> ComposeResult:
        """The question and a hidden line."""
        with Vertical(id="dialog"):
            yield Label(self._question, id="question", markup=False)
            yield Input(password=True, id="pin")
            yield Label(_("Enter sends the PIN, Esc cancels"), classes="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter sends it."""
        if event.value:
            self.dismiss(event.value)
