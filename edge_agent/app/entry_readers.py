"""Makes the scanner, the keypad and the card reader of a machine."""

from __future__ import annotations

from edge_agent.config import Settings
from edge_agent.config.readers import KeypadSection, ScannerSection
from edge_agent.drivers.entry.keyboard import Keyboard
from edge_agent.drivers.entry.scanner import SerialScanner
from edge_agent.drivers.entry.text_input import OnText, TextReader


def readers_of(settings: Settings, on_text: OnText) -> dict[str, TextReader]:
    """What is configured, by the names of the sections; each passes its texts to `on_text`."""
    card = settings.card_reader
    sections = {
        "scanner": settings.scanner,
        "keypad": settings.keypad,
        "card_reader": None if card is None else card.as_scanner() or card.as_keypad(),
    }
    return {name: _reader(section, on_text) for name, section in sections.items() if section is not None}


def _reader(section: ScannerSection | KeypadSection, on_text: OnText) -> TextReader:
    if isinstance(section, KeypadSection):
        return Keyboard(
            section.device,
            on_text,
            prefix=section.prefix,
            suffix=section.suffix,
            layout=section.layout,
        )
    return SerialScanner(
        section.port, section.baud, on_text, section.delimiter, section.prefix, section.suffix
    )
