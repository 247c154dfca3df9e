"""Cards and tags of couriers: an id that a reader sends stands for one code of one reservation.

An id becomes a code here and nowhere else (docs/decisions/0041-credentials.md). The code is then entered as
if somebody had typed it, so a credential opens nothing that its code would not open.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Literal

from edge_agent.model import Reservation, ReservationStatus, plain_digits

SEPARATORS = " :-"
"""Characters that readers put between the bytes of an id, or leave out."""


def plain_id(text: str) -> str:
    """An id as it is compared: without separators, in lower case, with the digits 0 to 9."""
    return "".join(one for one in plain_digits(text) if one not in SEPARATORS).casefold()


@dataclass(frozen=True, slots=True)
class Credential:
    """A card or tag: its name, its id (`plain_id`), and the code that it stands for.

    That is the drop-off or pick-up code of the reservation `reservation_id`, or, if that is empty, of the one
    reservation of `platform` with the order id `order_id`.
    """

    name: str
    id: str = field(repr=False)
    code: Literal["drop-off", "pick-up"]
    reservation_id: str = ""
    platform: str = ""
    order_id: str = ""

    def code_now(self, reservations: Iterable[Reservation]) -> str | None:
        """The digits that it stands for now; None if there is no such reservation, or more than one."""
        mine = [reservation for reservation in reservations if self._is_for(reservation)]
        status = ReservationStatus.PENDING if self.code == "drop-off" else ReservationStatus.DROPPED_OFF
        due = [reservation for reservation in mine if reservation.status is status]
        # One that is in its grace counts if no other one waits for this code.
        chosen = due or mine
        if len(chosen) != 1:
            return None
        return chosen[0].drop_off_code if self.code == "drop-off" else chosen[0].pickup_code

    def _is_for(self, reservation: Reservation) -> bool:
        if self.reservation_id:
            return reservation.reservation_id == self.reservation_id
        return (reservation.platform, reservation.platform_order_id) == (self.platform, self.order_id)


class Credentials:
    """All credentials of a machine."""

    def __init__(self, credentials: Iterable[Credential] = ()) -> None:
        self._credentials = tuple(credentials)

    def find(self, text: str) -> Credential | None:
        """The credential whose id was read; None if it is none. Each id is compared, in constant time."""
        read = plain_id(text).encode()
        found = None
        for credential in self._credentials:
            if compare_digest(read, credential.id.encode()):
                found = credential
        return found
