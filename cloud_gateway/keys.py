"""`python -m cloud_gateway.keys --name NAME FILE`: makes a key pair with which a gateway signs its commands.

The private half goes into FILE, which only its owner can read and which must not exist yet; the public half
is printed as the lines that gateway and machines need. Exit codes: 0 good, 2 the file cannot be made.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import sys
from pathlib import Path

from nacl.signing import SigningKey


def main(given: list[str] | None = None) -> int:
    """Reads the arguments, writes the file, prints the lines."""
    parser = argparse.ArgumentParser(prog="edge-gateway signing-key", description="makes an Ed25519 key pair")
    parser.add_argument(
        "--name", required=True, help="what machines know the key by: letters, digits, - and _"
    )
    parser.add_argument("file", type=Path, help="where the private key goes; must not exist")
    arguments = parser.parse_args(given)
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", arguments.name):
        parser.error("a name has letters, digits, - and _, 64 at most")
    key = SigningKey.generate()
    try:
        descriptor = os.open(arguments.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        print(f"keys: {arguments.file}: {error.strerror}", file=sys.stderr)
        return 2
    with open(descriptor, "wb") as file:
        file.write(base64.b64encode(bytes(key)) + b"\n")
    public = base64.b64encode(bytes(key.verify_key)).decode("ascii")
    print("# the gateway's [mqtt]")
    print(f'signing_key_file = "{arguments.file}"')
    print(f'signing_key_name = "{arguments.name}"')
    print("# every machine's [mqtt]")
    print(f'signing_keys = {{ {arguments.name} = "{public}" }}')
    return 0


if __name__ == "__main__":
    sys.exit(main())
