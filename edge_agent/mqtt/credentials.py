"""The files a link authenticates with, checked before use. Shared by machine and gateway; no MQTT.

No error or log here contains what is in a file, nor a file's name, which might be a secret written in the
wrong place: errors name the key of the configuration and what is wrong with its file.
"""

from __future__ import annotations

import gc
import os
import re
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.errors import LinkFault, LinkRefused
from edge_agent.mqtt.tpm_provider import TpmUnusable, in_tpm, load_provider
from edge_agent.protocol.broker import BrokerSection, secret_mask

LONGEST_READ = 65_536
"""At most this many bytes of a file are read; CA files are exempt."""
CA_FILE, CERT_FILE, KEY_FILE = "mqtt.tls.ca_file", "mqtt.tls.cert_file", "mqtt.tls.key_file"
PASSWORD_FILE = "mqtt.password_file"
"""Configuration keys that name files, for a machine as for a gateway."""
_FIRST_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
Stamp = tuple[tuple[int, ...] | None, ...]
"""Modification time, size, inode, mode and owner of each file; None for a missing one."""


@dataclass(frozen=True, slots=True)
class WallTime:
    """Unix time, and whether it was synchronised (or is trusted without that)."""

    wall_s: float
    synced: bool


@dataclass(frozen=True, slots=True)
class CheckedCredentials:
    """Files that passed the checks: what TLS and CONNECT need from them."""

    context: ssl.SSLContext | None
    username: str | None
    password: str | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What we trust and what we present; absolute paths. `tls` alone trusts what the system trusts."""

    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None

    @classmethod
    def of(cls, section: BrokerSection) -> Credentials:
        """From a configuration with its file paths resolved (`BrokerSection.placed`)."""
        tls = section.tls

        def path(name: str | None) -> Path | None:
            return None if name is None else Path(name)

        return cls(
            tls=tls is not None,
            ca_file=None if tls is None else path(tls.ca_file),
            cert_file=None if tls is None else path(tls.cert_file),
            key_file=None if tls is None else path(tls.key_file),
            username=section.username,
            password_file=path(section.password_file),
        )

    def stamp(self) -> Stamp:
        """Changes whenever a file does; costs one stat per file."""
        return tuple(_stamp(path) for path in self._files())

    def check(self, now: WallTime) -> CheckedCredentials:
        """Reads the files. Raises `LinkRefused` naming the first that is unusable."""
        password = None
        if self.password_file is not None:
            secret = read_secret(self.password_file, PASSWORD_FILE)
            password = _text(PASSWORD_FILE, secret).removesuffix("\n").removesuffix("\r")
            if not password:
                raise LinkRefused(f"{PASSWORD_FILE} is empty")
        context = self._context(now) if self.tls else None
        return CheckedCredentials(context, self.username, password)

    def _files(self) -> Iterator[Path]:
        for path in (self.ca_file, self.cert_file, self.key_file, self.password_file):
            if path is not None:
                yield path

    def _context(self, now: WallTime) -> ssl.SSLContext:
        """A client's context: TLS 1.2 at least; verifies the broker's certificate and name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca_file is None:
            context.load_default_certs()
        else:
            read_file(self.ca_file, CA_FILE)
            try:
                context.load_verify_locations(self.ca_file)
            except ssl.SSLError:
                raise LinkRefused(f"{CA_FILE} holds no certificate") from None
            if context.cert_store_stats()["x509_ca"] == 0:
                raise LinkRefused(f"{CA_FILE} holds no certificate of a CA")
        if self.cert_file is not None and self.key_file is not None:
            read_file(self.cert_file, CERT_FILE)
            if in_tpm(read_secret(self.key_file, KEY_FILE)):
                _let_tls_use_the_tpm()
            self.demand_in_force(now)
            self._load_pair(context, self.cert_file, self.key_file)
        return context

    def demand_in_force(self, now: WallTime) -> None:
        """Raises `LinkRefused` if the certificate is not in force.

        A clock that was never synchronised can only be behind: it is believed when it shows a certificate as
        expired, but not when it shows one as not yet valid.
        """
        if self.cert_file is None:
            return
        begins_s, ends_s = validity_s(self.cert_file, CERT_FILE)
        if now.wall_s > ends_s:
            raise LinkRefused(f"{CERT_FILE} has expired")
        if now.wall_s < begins_s and now.synced:
            raise LinkRefused(f"{CERT_FILE} is not valid yet")

    @staticmethod
    def _load_pair(context: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
        def no_passphrase() -> str:
            raise LinkRefused(f"{KEY_FILE} is encrypted")  # otherwise OpenSSL prompts at the terminal

        try:
            context.load_cert_chain(cert_file, key_file, no_passphrase)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise LinkRefused(f"{KEY_FILE} is not the key of {CERT_FILE}") from None
            raise LinkRefused(f"{CERT_FILE} and {KEY_FILE} cannot be used: {_reason(error)}") from None


class CredentialCheck:
    """Checks the same files for each attempt to connect. While they do not change it checks only dates:
    reading all that the system trusts takes tens of milliseconds, which blocks the whole daemon."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._known: tuple[Stamp, CheckedCredentials] | None = None

    def check(self, now: WallTime) -> CheckedCredentials:
        """See `Credentials.check`."""
        stamp = self._credentials.stamp()
        if self._known is not None and self._known[0] == stamp:
            self._credentials.demand_in_force(now)
        else:
            self._known = None  # a key in a TPM takes up room there for as long as somebody has its context
            self._known = (stamp, self._credentials.check(now))
        return self._known[1]

    def forget(self) -> None:
        """Discards the result: the next check reads every file again, as the system's CAs may have changed
        too."""
        self._known = None


class FileWatch:
    """Notices files that changed since their `stamp`."""

    def __init__(self, credentials: Credentials, stamp: Stamp) -> None:
        self._credentials = credentials
        self._known = self._last_seen = stamp

    def changed(self) -> bool:
        """True once for each change; files that are still changing wait for the next check."""
        stamp = self._credentials.stamp()
        settled = stamp == self._last_seen
        self._last_seen = stamp
        if not settled or stamp == self._known:
            return False
        self._known = stamp
        return True


NOTHING = Credentials()
"""Neither TLS nor a user name: a broker on loopback."""


def read_secret(path: Path, key: str) -> bytes:
    """The content of a file that only our user may read. Raises `LinkRefused` if others may, or if we may
    not."""
    return read_file(path, key, too_open=secret_mask(path, os.environ))


def read_file(path: Path, key: str, too_open: int = 0) -> bytes:
    """The content of a file, up to a length; never blocks, as a pipe would.

    Raises `LinkRefused` with its `key` of the configuration if it is no file, cannot be read, or is too open.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise LinkRefused(f"{key}: {error.strerror}") from None
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise LinkRefused(f"{key} is no file")
        if about.st_mode & too_open:
            raise LinkRefused(f"{key} can be read by others (mode {stat.S_IMODE(about.st_mode):04o})")
        return os.read(descriptor, LONGEST_READ)
    except OSError as error:
        raise LinkRefused(f"{key}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _let_tls_use_the_tpm() -> None:
    """Makes room for a key in the TPM, and lets TLS use it. Raises `LinkRefused`.

    The kernel gives a process room for three objects there. Loading a key needs two; one may be that of the
    connection that is up. The errors of refused connections are cycles that keep theirs until they are
    collected.
    """
    gc.collect()
    try:
        load_provider()
    except TpmUnusable as problem:
        raise LinkRefused(f"{KEY_FILE} is in a TPM that cannot be used: {problem}") from None


def _text(key: str, secret: bytes) -> str:
    try:
        return secret.decode("utf-8")
    except UnicodeDecodeError:
        raise LinkRefused(f"{key} is not UTF-8") from None


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino, about.st_mode, about.st_uid


def validity_s(path: Path, key: str) -> tuple[float, float]:
    """Unix times between which the first certificate of a PEM file is valid (RFC 5280, 4.1.2.5).

    The standard library has no public function for that. Raises `LinkRefused` if the file holds none.
    """
    try:
        found = _FIRST_CERTIFICATE.search(read_file(path, key).decode("utf-8", errors="replace"))
        if found is None:
            raise ValueError("no certificate")
        der = ssl.PEM_cert_to_DER_cert(found[0])
        _, certificate, _ = _der(der, 0)
        tag, at, _ = _der(der, certificate)  # TBSCertificate
        tag, _, after = _der(der, at)
        if tag == 0xA0:  # the version is left out if it is 1
            _, _, after = _der(der, after)
        for _ in ("signature", "issuer"):
            _, _, after = _der(der, after)
        _, at, _ = _der(der, after)
        begins_s, at = _der_time_s(der, at)
        return begins_s, _der_time_s(der, at)[0]
    except (ValueError, IndexError):
        raise LinkRefused(f"{key} holds no certificate that can be read") from None


def _der(der: bytes, at: int) -> tuple[int, int, int]:
    """Tag of the element at an offset, where its content begins, and where the next element does (X.690)."""
    tag, length, content = der[at], der[at + 1], at + 2
    if length >= 0x80:
        count = length & 0x7F
        length, content = int.from_bytes(der[content : content + count], "big"), content + count
    return tag, content, content + length


def _der_time_s(der: bytes, at: int) -> tuple[float, int]:
    """A UTCTime (tag 23, its years are 1950 to 2049) or a GeneralizedTime, and where the next element is."""
    tag, content, after = _der(der, at)
    text = der[content:after].decode("ascii")
    if tag == 0x17:
        text = ("20" if text[:2] < "50" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp(), after


def fault_of(error: BaseException | None) -> LinkFault:
    """What a connection error means: `LinkRefused` if TLS reports it, else a broker that is not reachable."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return LinkRefused(f"the broker's certificate is not accepted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return alert_in(str(error)) or LinkFault(f"no TLS connection: {_reason(error)}")
    if isinstance(error, OSError):
        return LinkFault(f"no connection: {error.strerror or error or type(error).__name__}")
    return LinkFault("no connection")


def _reason(error: ssl.SSLError) -> str:
    return getattr(error, "reason", None) or error.strerror or "unknown"


def alert_in(text: str) -> LinkRefused | None:
    """The broker's TLS alert in the text of an error, if any: it does not accept our certificate."""
    found = re.search(r"_ALERT_(\w+)|alert ([a-z ]+)", text)
    if found is None:
        return None
    alert = (found[1] or found[2]).replace("_", " ").lower().strip()
    return LinkRefused(f"the broker does not accept us: TLS alert {alert!r}")
