"""The section `[credentials]`: cards and tags of couriers, each of which stands for one code."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from edge_agent.errors import Finding
from edge_agent.model import parse_qr
from edge_agent.runtime.credentials import Credential, plain_id

LEAST_CHARACTERS, MOST_CHARACTERS = 8, 128
RESERVED = frozenset(
    ("api", "code", "credential", "keypad", "kiosk", "machine", "qr", "scanner", "technician", "unknown")
)
"""Names that would be taken for something else where the ledger names who opened a door."""


class CredentialSection(BaseModel):
    """A card or tag. `id`: what its reader sends; separators and upper or lower case do not count.

    `code`: which code of its reservation it stands for. The reservation is named by `reservation`, or by
    `platform` and `order`: the platform's order id, under which it may have one reservation after the other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: SecretStr
    code: Literal["drop-off", "pick-up"]
    reservation: Annotated[str, Field(strict=True, min_length=1, max_length=128)] | None = None
    platform: Annotated[str, Field(strict=True, min_length=1, max_length=128)] | None = None
    order: Annotated[str, Field(strict=True, min_length=1, max_length=1024)] | None = None

    @field_validator("id")
    @classmethod
    def _is_an_id(cls, secret: SecretStr) -> SecretStr:
        text = secret.get_secret_value()
        plain = plain_id(text)
        if not (plain.isascii() and plain.isalnum()):
            raise ValueError("must be letters and digits; between them :, - and blanks are allowed")
        if not LEAST_CHARACTERS <= len(plain) <= MOST_CHARACTERS:
            raise ValueError(f"must have {LEAST_CHARACTERS} to {MOST_CHARACTERS} letters and digits")
        return secret

    @model_validator(mode="after")
    def _names_one_reservation(self) -> CredentialSection:
        if (self.platform is None) is not (self.order is None):
            raise ValueError("platform and order belong together")
        if (self.reservation is None) is (self.order is None):
            raise ValueError("needs either reservation, or platform and order")
        return self

    def credential(self, name: str) -> Credential:
        """The credential as the kiosk uses it."""
        return Credential(
            name,
            plain_id(self.id.get_secret_value()),
            self.code,
            self.reservation or "",
            self.platform or "",
            self.order or "",
        )


def credential_findings(credentials: dict[str, CredentialSection], code_digits: int) -> list[Finding]:
    """Cross-checks the credentials. No finding shows an id."""
    findings: list[Finding] = []
    names: dict[str, str] = {}
    ids: dict[str, str] = {}
    for name, section in credentials.items():
        path = f"credentials.{name}"
        if name.casefold() in RESERVED:
            findings.append(Finding(path, f"{name!r} is a reserved name"))
        other = names.setdefault(name.casefold(), name)
        if other != name:
            findings.append(Finding(path, f"differs from {other!r} in upper and lower case only"))
        plain = plain_id(section.id.get_secret_value())
        other = ids.setdefault(plain, name)
        if other != name:
            findings.append(Finding(f"{path}.id", f"is also the id of credentials.{other}"))
        if plain.isdecimal() and len(plain) == code_digits:
            why = f"has {code_digits} digits, as every code: it could be somebody's code"
            findings.append(Finding(f"{path}.id", why))
        if parse_qr(section.id.get_secret_value()) is not None:
            findings.append(Finding(f"{path}.id", "is the text of a QR code"))
    return findings
