"""Parsers of the answers of the interview; a `ValueError` says what is expected."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from edge_agent.cli.text.language import _

T = TypeVar("T", covariant=True)


class Parser(Protocol[T]):
    """Makes a value of what was typed."""

    def __call__(self, answer: str, /) -> T:
        """Raises `ValueError`."""


NOTHING = "-"
YES = ("yes", "y", "ja", "j", "ya")
NO = ("no", "n", "nein", "tidak", "t")
"""In each language of the commands."""
Kind = Literal["cooling", "heating"]
KINDS: dict[str, Kind] = {"cold": "cooling", "hot": "heating"}


@dataclass(frozen=True, slots=True)
class Size:
    """A kind of cell; millimetres and grams."""

    name: str
    width_mm: int
    height_mm: int
    depth_mm: int
    max_mass_g: int


def text(most: int = 1024) -> Callable[[str], str]:
    """Words for people."""

    def parse(answer: str) -> str:
        answer = answer.strip()
        if len(answer) > most or not answer.isprintable():
            raise ValueError(_("must be at most {most} printable characters", most=most))
        return answer

    return parse


def identifier(answer: str) -> str:
    """A machine's id; the cells' ids are made of it."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,50}", answer.strip()):
        raise ValueError(_("must be 1 to 50 letters, digits, - and _"))
    return answer.strip()


def degrees(most: int) -> Callable[[str], float]:
    """A latitude or longitude."""

    def parse(answer: str) -> float:
        try:
            value = float(answer)
        except ValueError:
            value = math.nan
        if not -most <= value <= most:
            raise ValueError(_("must be degrees, {least} to {most}", least=-most, most=most))
        return value

    return parse


def number(least: int, most: int) -> Callable[[str], int]:
    """A whole number."""

    def parse(answer: str) -> int:
        if not answer.strip().isdecimal() or not least <= int(answer) <= most:
            raise ValueError(_("must be {least} to {most}", least=least, most=most))
        return int(answer)

    return parse


def yes(answer: str) -> bool:
    """Yes or no."""
    word = answer.strip().lower()
    if word not in (*YES, *NO):
        raise ValueError(_("must be yes or no"))
    return word in YES


def listed(answer: str) -> list[str]:
    """Words with commas between; `-`, `none` and nothing are none."""
    words = [word.strip() for word in answer.split(",")]
    return [] if words in ([NOTHING], [""], ["none"]) else [word for word in words if word]


def chosen(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Some of what there is, at least one."""

    def parse(answer: str) -> list[str]:
        words = listed(answer)
        if not words or not set(words) <= set(known):
            raise ValueError(_("must be some of: {known}", known=", ".join(known)))
        return list(dict.fromkeys(words))

    return parse


def one_of(known: Sequence[str]) -> Callable[[str], str]:
    """One of what there is."""

    def parse(answer: str) -> str:
        if answer.strip() not in known:
            raise ValueError(_("must be one of: {known}", known=", ".join(known)))
        return answer.strip()

    return parse


def host(answer: str) -> str:
    """A name or an address."""
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]{1,253}", answer.strip()):
        raise ValueError(_("must be a name or an address"))
    return answer.strip()


def port_or_none(answer: str) -> str | None:
    """A device's file below /dev, or none."""
    word = text()(answer)
    if word in (NOTHING, "", "none"):
        return None
    if not re.fullmatch(r"/dev/[A-Za-z0-9_.:,@+/-]+", word):
        text_of = _(
            "{word} is not a device such as /dev/ttyUSB1 or /dev/serial/by-id/…; - for none", word=repr(word)
        )
        raise ValueError(text_of)
    return word


def another_port(taken: Sequence[str]) -> Callable[[str], str | None]:
    """The same, but none of the ports that have boards."""

    def parse(answer: str) -> str | None:
        port = port_or_none(answer)
        if port in taken:
            raise ValueError(_("{port} is the port of a bus with boards", port=port))
        return port

    return parse


def another_device(
    used: Sequence[str | None], parse_device: Callable[[str], str | None]
) -> Callable[[str], str | None]:
    """The same, but none that another reader has already."""

    def parse(answer: str) -> str | None:
        device = parse_device(answer)
        if device is not None and device in used:
            raise ValueError(_("{device} is the scanner or keypad already", device=device))
        return device

    return parse


def file_or_none(answer: str) -> str | None:
    """A file that is there, or none. What systemd hands to the service (`credential:NAME`) is only there when
    it runs: that is for the file of the configuration."""
    word = text()(answer)
    if word in (NOTHING, "", "none"):
        return None
    if not word.startswith("/"):
        raise ValueError(_("{word} is no absolute path; - for none", word=repr(word)))
    if not os.path.isfile(word):
        raise ValueError(_("{word}: no such file", word=word))
    return word


def file(answer: str) -> str:
    """The same where one is needed."""
    found = file_or_none(answer)
    if found is None:
        raise ValueError(_("a certificate is of no use without its key"))
    return found


def ports(answer: str) -> list[str]:
    """Ports with boards: devices, `tcp://HOST:PORT` or `rtu+tcp://HOST:PORT`, each once."""
    found = listed(answer)
    for word in found:
        network = re.fullmatch(r"(?:rtu\+)?tcp://[^\s/]+:(\d{1,5})", word)
        if network is not None and 1 <= int(network[1]) <= 65_535:
            continue
        if not re.fullmatch(r"/[A-Za-z0-9_.:,@+/-]+", word):
            problem = _(
                "{word} is neither a device such as /dev/ttyUSB0 nor tcp://HOST:PORT nor rtu+tcp://HOST:PORT",
                word=repr(word),
            )
            raise ValueError(problem)
    if len(set(found)) < len(found):
        raise ValueError(_("one is given twice"))
    return found


def sizes(answer: str) -> list[Size]:
    """`small=350x150x450:5000, …`: width, height, depth, and the most that it may bear."""
    found = []
    for word in listed(answer):
        match = re.fullmatch(r"([A-Za-z0-9_-]{1,64})=(\d+)x(\d+)x(\d+):(\d+)", word)
        if match is None:
            raise ValueError(
                _(
                    "{word} is not NAME=WIDTHxHEIGHTxDEPTH:GRAMS, such as small=350x150x450:5000",
                    word=repr(word),
                )
            )
        width, height, depth, grams = (int(part) for part in match.groups()[1:])
        if not all(1 <= length <= 10_000 for length in (width, height, depth)) or not 1 <= grams <= 1_000_000:
            raise ValueError(_("{word}: lengths are 1 to 10000 mm, weights 1 to 1000000 g", word=repr(word)))
        found.append(Size(match[1], width, height, depth, grams))
    if not found or len({size.name for size in found}) < len(found):
        raise ValueError(_("must name at least one size, and each only once"))
    return found


def repeated(count: int, known: Sequence[str]) -> Callable[[str], list[str]]:
    """`small*6, large`: one of them for each of `count` cells in their order.

    A single name goes for all; after names with counts, a last one without goes for the rest. Else there must
    be one for each cell.
    """

    def parse(answer: str) -> list[str]:
        found: list[str] = []
        words = listed(answer)
        for word in words:
            match = re.fullmatch(r"([A-Za-z0-9_-]+)(?:\*(\d{1,3}))?", word)
            if match is None or match[1] not in known:
                raise ValueError(
                    _(
                        "{word} is no SIZE or SIZE*COUNT; sizes are: {known}",
                        word=repr(word),
                        known=", ".join(known),
                    )
                )
            found += [match[1]] * int(match[2] or 1)
        counted = any("*" in word for word in words[:-1]) or len(words) == 1
        fills = bool(words) and "*" not in words[-1] and counted
        if not found or len(found) > count or (len(found) < count and not fills):
            raise ValueError(
                _(
                    "these are {sizes} sizes for {cells} cells: {answer}",
                    sizes=len(found),
                    cells=count,
                    answer=repr(answer.strip()),
                )
            )
        return found + [found[-1]] * (count - len(found))

    return parse


def cells(count: int, labels: Sequence[str]) -> Callable[[str], list[str | None]]:
    """`A01, -, A03`: the cell of each of `count` things in their order; what is left out has none."""

    def parse(answer: str) -> list[str | None]:
        words = listed(answer)
        found = [None if word == NOTHING else word for word in words]
        named = [word for word in found if word is not None]
        unknown = sorted(set(named) - set(labels))
        if unknown:
            raise ValueError(_("no such cell: {label}", label=", ".join(unknown)))
        if len(set(named)) < len(named):
            raise ValueError(_("a cell is named twice"))
        if len(found) > count:
            raise ValueError(_("there are only {number}", number=count))
        return found + [None] * (count - len(found))

    return parse


ALL = "all"


def signals(count: int, labels: Sequence[str]) -> Callable[[str], list[list[str] | None]]:
    """`A01, -, A03+A04, all`: the cells of each of `count` lights or buzzers in their order; for
    `all` of them the list is empty."""

    def parse(answer: str) -> list[list[str] | None]:
        found: list[list[str] | None] = []
        for word in listed(answer):
            chosen = [part.strip() for part in word.split("+")]
            if word == NOTHING:
                found.append(None)
                continue
            if word == ALL:
                found.append([])
                continue
            unknown = [part for part in chosen if part not in labels]
            if unknown:
                raise ValueError(_("no such cell: {label}", label=", ".join(unknown)))
            if len(set(chosen)) < len(chosen):
                raise ValueError(_("a cell is named twice"))
            found.append(chosen)
        alone = [one[0] for one in found if one is not None and len(one) == 1]
        if len(set(alone)) < len(alone):
            raise ValueError(_("a cell is named twice"))
        if len(found) > count:
            raise ValueError(_("there are only {number}", number=count))
        return found + [None] * (count - len(found))

    return parse


def outputs(count: int, labels: Sequence[str]) -> Callable[[str], list[tuple[str, Kind] | None]]:
    """`B01:cold, -, C01:hot`: what each of `count` relays switches. `cold` or `hot` alone: that for each of
    the cells in `labels`, which have thermometers, in order."""

    def parse(answer: str) -> list[tuple[str, Kind] | None]:
        words = listed(answer)
        if len(words) == 1 and words[0] in KINDS:
            words = [f"{label}:{words[0]}" for label in labels[:count]]
        found: list[tuple[str, Kind] | None] = []
        for word in words:
            label, _colon, kind = word.partition(":")
            if word == NOTHING:
                found.append(None)
            elif label not in labels or kind not in KINDS:
                raise ValueError(
                    _("{word} is no CELL:cold or CELL:hot of a cell with a thermometer", word=repr(word))
                )
            elif (label, KINDS[kind]) in found:
                raise ValueError(_("{word} is given twice", word=repr(word)))
            else:
                found.append((label, KINDS[kind]))
        if len(found) > count:
            raise ValueError(_("there are only {number} relays", number=count))
        return found + [None] * (count - len(found))

    return parse
