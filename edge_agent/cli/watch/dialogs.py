"""The dialogs before an action: confirmation, reason, and the technician's PIN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label


@dataclass(frozen=True, slots=True)
class Act:
    """One act of a technician: the question before it, and the text that is shown when it is done."""

    question: str
    done: str
    with_reason: bool


ACTS = {  # by the name that the local API has for it
    "open": Act("Open the door of {label}? Somebody's parcel may be in it.", "{label} is open", True),
    "block": Act("Take {label} out of allocation?", "{label} is blocked", True),
    "unblock": Act("Give {label} back to allocation?", "{label} is not blocked any more", False),
    "clear": Act("Have you inspected {label}: is it empty and in order?", "{label} is clear", False),
}


class Confirm(ModalScreen[str | None]):
    """Asks for confirmation, and for a reason if the action needs one; returns the reason (or ""), or
    None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "no"),
        Binding("n", "refuse", "no", show=False),
        Binding("y", "agree", "yes", show=False),
    ]

    def __init__(self, act: Act, label: str) -> None:
        super().__init__()
        self._act = act
        self._label = label

    def compose(self) -> ComposeResult:
        """The question, and a line for the reason."""
        with Vertical(id="dialog"):
            yield Label(self._act.question.format(label=self._label), id="question", markup=False)
            if self._act.with_reason:
                yield Input(placeholder="the reason, for the journal", max_length=256, id="reason")
                yield Label("Enter confirms, Esc cancels", classes="hint")
            else:
                yield Label("y confirms, n or Esc cancels", classes="hint")

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


class AskPin(ModalScreen[str | None]):
    """Asks for the technician's PIN, hidden; gives it, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "no")]

    def __init__(self, who: str, why: str) -> None:
        super().__init__()
        self._question = f"{why}\nPIN of {who}:"

    def compose(self) -> ComposeResult:
        """The question and a hidden line."""
        with Vertical(id="dialog"):
            yield Label(self._question, id="question", markup=False)
            yield Input(password=True, id="pin")
            yield Label("Enter sends the PIN, Esc cancels", classes="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter sends it."""
        if event.value:
            self.dismiss(event.value)
