"""The broker's address and our identity there: the keys of `[mqtt]` that machine and gateway share."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_agent.errors import ConfigError, Finding

CREDENTIAL = "credential:"
"""Prefix of the name of a file that systemd hands to the service (systemd.exec(5), LoadCredential=)."""
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
"""Environment variable: the folder that holds those files."""
OTHERS = 0o077
CREDENTIAL_OTHERS = 0o027
"""For a file in systemd's credentials folder: its group bits are the mask of the ACL that lets us read it
(systemd issue 29435); the folder is closed to all others."""
WEBSOCKET_PATH = "/mqtt"
"""The usual path of a broker."""
PORTS = {("tcp", False): 1883, ("tcp", True): 8883, ("websockets", False): 80, ("websockets", True): 443}
"""The usual port by transport and whether TLS is used (the first two: IANA)."""

FileName = Annotated[str, Field(strict=True, min_length=1, max_length=1024, pattern=r"^[^\x00]+$")]
"""A file. A relative one is relative to the configuration's folder; `credential:NAME` is systemd's."""


def secret_mask(path: Path, environment: Mapping[str, str]) -> int:
    """The mode bits that a file with a secret must not have."""
    place = environment.get(CREDENTIALS_DIRECTORY, "")
    return CREDENTIAL_OTHERS if place and path.parent == Path(place) else OTHERS


class TlsSection(BaseModel):
    """TLS; without `ca_file` the system's CAs are trusted, without the others we present no certificate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: FileName | None = None
    cert_file: FileName | None = None
    key_file: FileName | None = None

    @model_validator(mode="after")
    def _together(self) -> TlsSection:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file: neither is of use without the other")
        return self


class BrokerSection(BaseModel):
    """The broker: its address, its transport, and our credentials."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, Field(strict=True, min_length=1, max_length=253, pattern=r"^[^\s/.][^\s/]*$")]
    port: Annotated[int, Field(strict=True, ge=1, le=65_535)]
    transport: Literal["tcp", "websockets"] = "tcp"
    websocket_path: Annotated[str, Field(strict=True, max_length=1024, pattern=r"^/[!-~]*$")] = WEBSOCKET_PATH
    tls: TlsSection | None = None
    username: Annotated[str, Field(strict=True, min_length=1, max_length=1024)] | None = None
    password_file: FileName | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual_port(cls, data: Any) -> Any:
        if isinstance(data, dict) and "port" not in data:
            port = PORTS.get((data.get("transport", "tcp"), data.get("tls") is not None))
            return data if port is None else {**data, "port": port}
        return data

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.websocket_path != WEBSOCKET_PATH and self.transport != "websockets":
            raise ValueError('websocket_path: is only for transport = "websockets"')
        if self.password_file is not None and self.username is None:
            raise ValueError("username: is needed beside password_file")
        return self

    def placed(self, folder: Path, environment: Mapping[str, str]) -> Self:
        """The same with every file's name made absolute.

        Raises `ConfigError` naming each missing `credential:`, with its key path below `mqtt`.
        """
        findings: list[Finding] = []

        def place(path: tuple[str, ...], name: str | None) -> str | None:
            try:
                return None if name is None else str(file_at(folder, name, environment))
            except ValueError as error:
                findings.append(Finding(".".join(("mqtt", *path)), str(error)))
                return name

        tls = self.tls
        if tls is not None:
            names = {key: place(("tls", key), getattr(tls, key)) for key in type(tls).model_fields}
            tls = tls.model_copy(update=names)
        own = {key: place((key,), getattr(self, key)) for key in self._own_files()}
        if findings:
            raise ConfigError(findings)
        return self.model_copy(update={"tls": tls, **own})

    @classmethod
    def _own_files(cls) -> tuple[str, ...]:
        return tuple(name for name in cls.model_fields if name.endswith("_file"))


def file_at(folder: Path, name: str, environment: Mapping[str, str]) -> Path:
    """The absolute path of a configured file. Raises `ValueError` if systemd provides none of that name."""
    if not name.startswith(CREDENTIAL):
        return folder / name
    credential = name.removeprefix(CREDENTIAL)
    if not credential or "/" in credential or credential in (".", ".."):
        raise ValueError(f"must be {CREDENTIAL}NAME, a name without a slash")
    place = environment.get(CREDENTIALS_DIRECTORY, "")
    if not place:
        # Never the name itself: it might be the secret, written in the wrong place.
        needs = f"needs ${CREDENTIALS_DIRECTORY}, which systemd sets for a service"
        raise ValueError(f"{needs} with a line LoadCredential=NAME:...")
    return Path(place) / credential


def key_bytes(text: str) -> bytes:
    """An Ed25519 key, public or seed, from base64 (RFC 8032: 32 bytes). Raises `ValueError`."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be an Ed25519 key in base64") from None
    if len(key) != 32:
        raise ValueError(f"must be an Ed25519 key: 32 bytes in base64, not {len(key)}")
    return key
