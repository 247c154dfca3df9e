"""Page tokens of a list: an opaque cursor, which names the last row of a page, with a checksum that detects
guessed tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac

from cloud_gateway.api.errors import invalid
from cloud_gateway.db.store import ReservationRow

LARGEST = 2**63 - 1
"""The largest number of the database."""


def token_after(row: ReservationRow) -> str:
    """The token of the page that begins after `row`."""
    place = f"{row.created_s}.{row.position}"
    return base64.urlsafe_b64encode(f"{place}.{_checksum(place)}".encode()).decode().rstrip("=")


def cursor_of(token: str) -> tuple[int, int]:
    """The cursor that a token encodes: creation time and row number of the last row. Raises `Refusal`
    INVALID_ARGUMENT."""
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode(
            "ascii"
        )
        place, _, checksum = text.rpartition(".")
        if hmac.compare_digest(checksum, _checksum(place)):
            created_s, row_number = (int(part) for part in place.split("."))
            if 0 <= created_s <= LARGEST and 0 <= row_number <= LARGEST:
                return created_s, row_number
    except ValueError:
        pass
    raise invalid("page_token", "is not a token of this API")


def _checksum(place: str) -> str:
    return hashlib.sha256(f"page {place}".encode()).hexdigest()[:16]
