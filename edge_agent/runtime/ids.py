"""Random numbers for the core: candidate codes and identifiers, unguessable in production."""

from __future__ import annotations

import random
import secrets

from edge_agent.protocol.enrolment import CODE_ALPHABET, CODE_LENGTH

CANDIDATES = 64
"""Codes drawn for one reservation; the core takes the first two that are free."""


class Ids:
    """Draws from the kernel's generator, or from a seeded one for reproducible runs."""

    def __init__(self, source: random.Random | None = None) -> None:
        self._source = secrets.SystemRandom() if source is None else source

    def candidate_codes(self, digits: int) -> tuple[str, ...]:
        """Distinct random codes of `digits` digits."""
        numbers = self._source.sample(range(10**digits), CANDIDATES)
        return tuple(f"{number:0{digits}d}" for number in numbers)

    def unique(self, prefix: str) -> str:
        """A new identifier of 128 random bits: `evt_…`."""
        return f"{prefix}_{self._source.getrandbits(128):032x}"

    def claim_code(self) -> str:
        """A new claim code (`edge_agent.protocol.enrolment`)."""
        return "".join(self._source.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))

    def uuid(self) -> str:
        """A random UUID (RFC 9562, version 4)."""
        bits = self._source.getrandbits(128)
        bits = (bits & ~(0xF << 76) & ~(0x3 << 62)) | (4 << 76) | (2 << 62)
        text = f"{bits:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
