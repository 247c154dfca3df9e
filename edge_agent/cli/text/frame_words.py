"""What passes on a bus, in the language of the locale.

The daemon describes each frame in English (`edge_agent.drivers.decode`): an arrow, the device, what it is
asked or says. Names and numbers stay as they are.
"""

from __future__ import annotations

import re
from functools import lru_cache

from edge_agent.cli.text.language import SOURCE, _, from_daemon, language, marked

POINTS = {
    "coils": marked("coils"),
    "coil": marked("coil"),
    "inputs": marked("inputs"),
    "registers": marked("registers"),
    "register": marked("register"),
    "input registers": marked("input registers"),
    "input register": marked("input register"),
    "contacts": marked("contacts"),
}
"""What is read or written."""
SENTENCES = (
    marked("not a request that is known"),
    marked("read {number} {points} from {first}"),
    marked("read the contacts"),
    marked("unlock {channel}"),
    marked("all outputs off"),
    marked("all signals off"),
    marked("pulse channel {channel} for {ms} ms"),
    marked("channel {channel} on"),
    marked("channel {channel} off"),
    marked("signal {channel} on"),
    marked("signal {channel} off"),
    marked("write {points} from {first}: {values}"),
    marked("write {points} {first}: {values}"),
    marked("{points} {channels} high"),
    marked("{points} all low"),
    marked("{points} from {first}: {values}"),
    marked("rubbish, {number} bytes"),
    marked("unasked"),
    marked("unasked from {device}"),
    marked("nobody was asked"),
    marked("done"),
    marked("late: {rest}"),
    marked("exception {number}: {why}"),
    marked("damaged: {why}"),
    marked("{number} frames passed too quickly to be shown"),
)
DAMAGES = (
    marked("checksum is wrong"),
    marked("{number} bytes, not {wanted}"),
    marked("function {number} answered instead of {wanted}"),
    marked("the echo of a write differs from the request"),
    marked("the adapter did not echo what was sent"),
    marked("byte count {number}, not {wanted}"),
    marked("not a Modbus reply"),
    marked("{number} bytes that are no Modbus TCP frame"),
    marked("{number} bytes without an answer"),
    marked("{number} bytes of sensors, not {wanted}"),
    marked("contacts {values}, not {number} of 00 and 01"),
)
"""Why a reply is damaged."""
VALUES = {
    "number": r"\d+",
    "wanted": r"\d+",
    "first": r"\d+",
    "channel": r"\d+",
    "ms": r"[\d.]+",
    "channels": r"[\d,]+",
    "device": r"\S+",
    "points": "|".join(sorted(POINTS, key=len, reverse=True)),
}
"""What may stand for a name in a sentence; anything, where it is not here."""
_FRAME = re.compile(r"(-> |<- |)(\S+\(\d+\) |)(.*)", re.DOTALL)


def frame_words(words: str) -> str:
    """The words for a frame; as they are where no sentence fits."""
    if language() == SOURCE:
        return words
    found = _FRAME.fullmatch(words)
    return words if found is None else f"{found[1]}{found[2]}{_said(found[3])}"


def _said(text: str) -> str:
    for sentence in (*SENTENCES, *DAMAGES):
        found = _pattern(sentence).fullmatch(text)
        if found is not None:
            return _(sentence).format(
                **{name: _value(name, value) for name, value in found.groupdict().items()}
            )
    return text


def _value(name: str, value: str) -> str:
    if name == "points":
        return _(POINTS[value])
    if name == "rest":
        return _said(value)
    if name == "why":
        said = _said(value)
        return said if said != value else from_daemon(value)
    return value


@lru_cache
def _pattern(sentence: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", sentence)
    texts, names = parts[::2], [*parts[1::2], None]
    pieces = []
    for text, name in zip(texts, names, strict=True):
        pieces.append(re.escape(text))
        pieces += [] if name is None else [f"(?P<{name}>{VALUES.get(name, '.*')})"]
    return re.compile("".join(pieces), re.DOTALL)
