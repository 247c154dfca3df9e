"""Where the door contacts of locks are that have none on their own board."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_agent.cli.init import words
from edge_agent.cli.init.answers import Interview, Missing
from edge_agent.cli.init.plan import Board
from edge_agent.cli.text.language import _


@dataclass(frozen=True, slots=True)
class Link:
    """The locks of one board, from channel `lock` on, have their contacts on another, from channel `contact`
    on, until the locks or the contacts of the board end."""

    locks: str
    lock: int
    contacts: str
    contact: int

    def __str__(self) -> str:
        return f"{self.locks}/{self.lock}={self.contacts}/{self.contact}"


def with_contacts(interview: Interview, boards: Sequence[Board]) -> list[Board]:
    """The boards, those with locks joined to those with their door contacts as somebody says.

    Raises `Missing` where several boards could belong together and nobody is there to be asked: a contact of
    another lock shows the wrong door.
    """
    locks = [board for board in boards if board.bare_locks]
    if not any(_contacts(other) for board in locks for other in boards if other is not board):
        return list(boards)
    links = proposed(boards)
    free = {link.locks for link in links}, {link.contacts for link in links}
    if not interview.answered("contacts") and max(map(len, free)) > 1:
        example = ", ".join(map(str, links))
        raise Missing(
            _("which contacts belong to which locks? --contacts LIST, such as {example}", example=example)
        )
    text = _(
        "where the door contacts of the locks on {locks} are, if on another board: LOCKS=CONTACTS, such as"
        " bus0:1=bus0:2 or bus0:1/9=bus0:2/1",
        locks=", ".join(board.place for board in locks),
    )
    default = ", ".join(map(str, links)) or words.NOTHING
    return joined(boards, interview.ask("contacts", text, default, parser(boards)))


def _contacts(board: Board) -> int:
    return board.profile.channels("doors")


def proposed(boards: Sequence[Board]) -> list[Link]:
    """Boards without a door contact joined to boards without a lock, in their order; a board that has both is
    taken to serve cells of its own."""
    free = [board for board in boards if _contacts(board) and not board.profile.channels("lock")]
    found: list[Link] = []
    used = 0
    for board in boards:
        locks, done = board.profile.channels("lock"), 0
        while free and not _contacts(board) and done < locks:
            found.append(Link(board.place, done + 1, free[0].place, used + 1))
            taken = min(locks - done, _contacts(free[0]) - used)
            done, used = done + taken, used + taken
            if used == _contacts(free[0]):
                free, used = free[1:], 0
    return found


def parser(boards: Sequence[Board]) -> words.Parser[list[Link]]:
    """Of `BUS:ADDRESS/LOCK=BUS:ADDRESS/CONTACT, …`."""
    places = {board.place: board for board in boards}

    def parse(answer: str) -> list[Link]:
        links: list[Link] = []
        for word in words.listed(answer):
            match = re.fullmatch(r"(\w+:\d{1,3})(?:/(\d{1,2}))?=(\w+:\d{1,3})(?:/(\d{1,2}))?", word)
            if match is None:
                text = _(
                    "{word} is no LOCKS=CONTACTS, such as bus0:1=bus0:2 or bus0:1/9=bus0:2/1", word=repr(word)
                )
                raise ValueError(text)
            for place in (match[1], match[3]):
                if place not in places:
                    raise ValueError(_("no board was found at {place}", place=place))
            link = Link(match[1], int(match[2] or 1), match[3], int(match[4] or 1))
            if not 1 <= link.lock <= places[link.locks].profile.channels("lock"):
                raise ValueError(_("{place} has no lock {channel}", place=link.locks, channel=link.lock))
            if not 1 <= link.contact <= _contacts(places[link.contacts]):
                text = _("{place} has no door contact {channel}", place=link.contacts, channel=link.contact)
                raise ValueError(text)
            links.append(link)
        joined(boards, links)
        return links

    return parse


def joined(boards: Sequence[Board], links: Sequence[Link]) -> list[Board]:
    """The boards with what their links say. Raises `ValueError` where a contact would have two locks, or a
    lock two contacts."""
    found = {board.place: board for board in boards}
    contacts: dict[tuple[str, int], int] = {}
    for link in links:
        locks = range(link.lock, found[link.locks].profile.channels("lock") + 1)
        channels = range(link.contact, _contacts(found[link.contacts]) + 1)
        later = [one.lock for one in links if one.locks == link.locks and one.lock > link.lock]
        for lock, channel in zip([n for n in locks if n < min(later, default=n + 1)], channels, strict=False):
            if (link.contacts, channel) in contacts:
                text = _(
                    "door contact {channel} of {place} has two locks", channel=channel, place=link.contacts
                )
                raise ValueError(text)
            if any(lock == known for known, _place, _contact in found[link.locks].joined):
                text = _("lock {channel} of {place} has two door contacts", channel=lock, place=link.locks)
                raise ValueError(text)
            contacts[link.contacts, channel] = lock
            board = found[link.locks]
            found[link.locks] = replace(board, joined=(*board.joined, (lock, link.contacts, channel)))
    for place, channel in contacts:
        found[place] = replace(found[place], lent=found[place].lent | {channel})
    return list(found.values())
