"""Lets OpenSSL use keys in a TPM 2.0, by the provider of the package tpm2-openssl.

Such a key stands in a PEM file, wrapped: only the TPM that made it can use it. The file begins with
`PEM_BEGIN` (docs/decisions/0058-tpm.md).
"""

from __future__ import annotations

import ctypes
import os
import re
import ssl
import subprocess
from functools import cache
from pathlib import Path

from edge_agent.errors import EdgeAgentError

PEM_BEGIN = "-----BEGIN TSS2 PRIVATE KEY-----"
DEVICE = Path("/dev/tpmrm0")
"""The kernel's resource manager for the TPM: several processes can use it at once."""
PLACE = "TPM2OPENSSL_TCTI"
"""The provider's own environment variable: where its TPM is, such as `swtpm:path=SOCKET`."""
OLDEST = (1, 3)
"""The oldest version of tpm2-openssl that works. One before 1.2 exports a key without its private half and
calls that a success, so that OpenSSL signs with it and fails (issue 81 of tpm2-openssl); one before 1.3 fails
when two threads use it (its CHANGELOG)."""
TIMEOUT_S = 20.0
"""For one command; a TPM makes a key within seconds."""
_PROVIDERS = ("-provider", "default", "-provider", "tpm2")
"""The order matters, see `load_provider`."""
_VERSION = re.compile(r"^ {2}tpm2\n(?: {4}.*\n)*? {4}version: (\d+)\.(\d+)(\S*)$", re.MULTILINE)
_HERE = {PLACE: f"device:{DEVICE}", "TSS2_LOG": "all+NONE"}
"""Where the TPM is. Its library would write messages of its own to the standard error output."""
_CRYPTO = "libcrypto.so.3"
"""The library that Python's `ssl` has loaded; by this name the same one is found again."""


class TpmUnusable(EdgeAgentError):
    """There is no TPM, or OpenSSL cannot use it; the text says what is missing."""


def in_tpm(key_file: bytes) -> bool:
    """Whether the content of a key's file is a key in a TPM."""
    return key_file.lstrip().startswith(PEM_BEGIN.encode())


def require_tpm() -> None:
    """Raises `TpmUnusable` if there is no TPM, or if we may not use it. Another place than `DEVICE` is
    believed."""
    if _environment()[PLACE] != _HERE[PLACE]:
        return
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise TpmUnusable(f"there is no TPM 2.0: {DEVICE} is missing") from None
    except OSError as error:
        raise TpmUnusable(f"{DEVICE}: {error.strerror}") from None


def require_provider() -> None:
    """Raises `TpmUnusable`, which names what is missing, unless a key can be made in a TPM."""
    require_tpm()
    listed = run_openssl("list", "-providers").decode(errors="replace")
    version = _VERSION.search(listed)
    if version is None:
        raise TpmUnusable("OpenSSL's provider tpm2 shows no version")
    if (int(version[1]), int(version[2])) < OLDEST:
        known, oldest = f"{version[1]}.{version[2]}{version[3]}", ".".join(map(str, OLDEST))
        raise TpmUnusable(f"tpm2-openssl {known} is too old: {oldest} or newer is needed")


def run_openssl(*arguments: str, given: bytes = b"") -> bytes:
    """The standard output of the command `openssl` with the provider; `given` goes to its standard input.
    Raises `TpmUnusable`."""
    command = ("openssl", *arguments[:1], *_PROVIDERS, *arguments[1:])
    environment = _environment()
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, timeout=TIMEOUT_S, check=False, env=environment
        )
    except FileNotFoundError:
        raise TpmUnusable("the command openssl is missing (package openssl)") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TpmUnusable(f"openssl {arguments[0]}: {error}") from None
    if done.returncode:
        raise TpmUnusable(_reason(arguments[0], done.stderr.decode(errors="replace")))
    return done.stdout


@cache
def load_provider() -> None:
    """Lets this process use keys in a TPM for TLS; once for all. Raises `TpmUnusable`.

    OpenSSL takes an algorithm from the first loaded provider that has it. The default one comes first, so
    that the TPM does nothing but sign with its own keys: it is slow, and knows fewer kinds of keys than
    brokers use. A provider that is loaded ends the automatic loading of the default one
    (OSSL_PROVIDER_load(3)).
    """
    require_provider()
    for name, value in _HERE.items():
        os.environ.setdefault(name, value)
    try:
        library = ctypes.CDLL(_CRYPTO)
        load = library.OSSL_PROVIDER_load
    except (OSError, AttributeError) as error:
        raise TpmUnusable(f"{ssl.OPENSSL_VERSION} is no OpenSSL 3 of the system: {error}") from None
    load.restype, load.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)
    for provider in (b"default", b"tpm2"):
        if not load(None, provider):
            raise TpmUnusable(f"OpenSSL cannot load its provider {provider.decode()} (package tpm2-openssl)")


def _environment() -> dict[str, str]:
    """The environment of this process, and what the provider needs where that does not say it."""
    return _HERE | dict(os.environ)


def _reason(command: str, errors: str) -> str:
    if "could not load the shared library" in errors:
        return "OpenSSL's provider for a TPM is missing (package tpm2-openssl)"
    if "Could not read" in errors:
        return "the TPM does not load the key; another one made it, or its owner has cleared it"
    lines = errors.strip().splitlines()
    named = [line.rpartition(":")[2].strip() for line in lines if ":tpm2::" in line or ":lib(" in line]
    why = (named or lines or ["no reason given"])[0]
    return f"openssl {command}: {why}"
